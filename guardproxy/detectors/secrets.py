"""Keys, tokens and passwords in texts and code. Finding's category: the kind of secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from guardproxy.detectors.base import Detector, Resources
from guardproxy.detectors.forms.form import Form, FormDetector
from guardproxy.detectors.forms.secret_forms import SECRETS, PrivateKey, Tokens
from guardproxy.detectors.pii import chosen

VERSION = "1"
"""Of the rules: it goes into a policy's version, so a change of them must change it."""


def build(parameters: Mapping[str, object], _resources: Resources) -> Detector:
    """The detector for a guard's `entities`; all kinds if it names none."""
    return detector(chosen(parameters, SECRETS))


def detector(entities: Sequence[str] = SECRETS) -> FormDetector:
    """A detector of some kinds of secrets."""
    words = [name for name in entities if name != "private_key"]
    forms: list[Form] = [Tokens(words)] if words else []
    forms += [PrivateKey()] if "private_key" in entities else []
    return FormDetector("secrets", forms, entities, VERSION)
