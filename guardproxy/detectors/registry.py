"""Every detector by name. Dotted paths, so that an extra is loaded only when a policy asks for it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from guardproxy.core.verdict import Stage
from guardproxy.detectors.base import Detector, DetectorFactory, Resources
from guardproxy.errors import PolicyError


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a detector is built and what suits it when a guard does not say.

    Attributes:
        path: `module:function` of its `DetectorFactory`.
        parameters: Keys that a guard in a policy may have for it beside those of every guard.
        gives_spans: Whether its findings say where: only such hits can be redacted.
        extra: Of the package that it needs.
    """

    path: str
    input_kinds: tuple[str, ...]
    output_kinds: tuple[str, ...]
    parameters: tuple[str, ...] = ()
    gives_spans: bool = False
    extra: str | None = None

    def kinds(self, stage: Stage) -> tuple[str, ...]:
        """What the detector looks at by default; empty if it does not suit the stage."""
        return self.input_kinds if stage is Stage.INPUT else self.output_kinds


_SPELLED = (
    ("system", "user", "assistant", "tool", "image_text"),
    ("content", "reasoning", "refusal", "tool_arguments"),
)
"""Everything with text in it that can be redacted, on both sides: what detectors of spelled things look at."""
# What is asked over HTTP looks at what people and tools say; a system text is the application's own.
_ASKED = ("user", "assistant", "tool")
_ANSWERED = ("content", "reasoning", "refusal", "tool_arguments")
_SERVED = ("backend", "ignore")
"""Keys of every guard model that is asked over HTTP; most have the following two as well."""
_LONG, _SURE = "max_chars", "logprobs"

DETECTORS: Mapping[str, Entry] = {
    "patterns": Entry(
        "guardproxy.detectors.patterns:build",
        ("user", "assistant", "tool", "tools"),
        ("content", "reasoning", "refusal", "tool_arguments"),
        ("patterns",),
        gives_spans=True,
    ),
    "jailbreak": Entry(
        "guardproxy.detectors.classifiers:jailbreak", ("user", "assistant", "tool", "tools"), (), ("encoder",)
    ),
    "harmful_request": Entry(
        "guardproxy.detectors.classifiers:harmful_request", ("user", "assistant", "system"), (), ("encoder",)
    ),
    "blank_image": Entry("guardproxy.detectors.blank_image:build", ("image",), ()),
    "text_in_image": Entry("guardproxy.detectors.text_in_image:build", ("image_text",), ()),
    "image_hash": Entry("guardproxy.detectors.image_hash:build", ("image",), (), ("file",)),
    "image_safety": Entry("guardproxy.detectors.image_safety:build", ("image",), (), extra="image-safety"),
    "instruction_in_image": Entry(
        "guardproxy.detectors.instruction_in_image:build", ("image_text",), (), extra="images"
    ),
    "harmful_answer": Entry(
        "guardproxy.detectors.classifiers:harmful_answer",
        (),
        ("content", "reasoning", "refusal", "tool_arguments"),
        ("encoder",),
    ),
    "prompt_leak": Entry(
        "guardproxy.detectors.prompt_leak:build", (), ("content", "reasoning", "refusal", "tool_arguments")
    ),
    "pii": Entry("guardproxy.detectors.pii:build", *_SPELLED, ("entities",), gives_spans=True),
    "secrets": Entry("guardproxy.detectors.secrets:build", *_SPELLED, ("entities",), gives_spans=True),
    "person_names": Entry(
        "guardproxy.detectors.spacy_names:build", *_SPELLED, gives_spans=True, extra="names"
    ),
    "refusal": Entry("guardproxy.detectors.classifiers:refusal", (), ("content", "refusal")),
    "cascade": Entry("guardproxy.detectors.cascade:build", _ASKED, _ANSWERED, ("of",)),
    "would_decline": Entry(
        "guardproxy.detectors.would_decline:build",
        ("user", "image_text"),
        (),
        ("backend", "caption_backend", "rules", _LONG, _SURE),
    ),
    **{
        name: Entry(f"guardproxy.detectors.guard_models.{name}:build", inputs, outputs, (*_SERVED, *own))
        for name, inputs, outputs, own in (
            ("llama_guard", _ASKED, _ANSWERED, (_LONG, _SURE, "pictures")),
            ("qwen3guard", _ASKED, _ANSWERED, (_LONG, _SURE)),
            ("wildguard", _ASKED, _ANSWERED, (_LONG, _SURE)),
            ("granite_guardian", _ASKED, _ANSWERED, (_LONG, _SURE, "form", "criteria", "own")),
            ("gpt_oss_safeguard", _ASKED, _ANSWERED, (_LONG, "policy", "effort")),
            ("judge", _ASKED, _ANSWERED, (_LONG, _SURE, "rubric", "pictures")),
            ("shieldgemma2", ("image",), (), (_SURE, "policies", "framed")),
            ("llavaguard", ("image",), (), (_SURE, "policy")),
        )
    },
    "classify": Entry(
        "guardproxy.detectors.guard_models.classify:build",
        _ASKED,
        _ANSWERED,
        ("backend", _LONG, "labels", "unsafe", "with_question"),
    ),
    "fms": Entry(
        "guardproxy.detectors.guard_models.fms:build",
        _ASKED,
        _ANSWERED,
        ("backend", "detector_id", "types", "hold_chars"),
        gives_spans=True,
    ),
}


def build(name: str, parameters: Mapping[str, object], resources: Resources) -> Detector:
    """Build a detector with a guard's parameters, and warm it up: once built, it is ready.

    Raises:
        PolicyError: The name is unknown, its extra is not installed or a parameter is wrong.
    """
    entry = DETECTORS[name]
    module, _, function = entry.path.partition(":")
    try:
        factory: DetectorFactory = getattr(importlib.import_module(module), function)
        detector = factory(parameters, resources)
    except ImportError as error:
        if entry.extra is None:
            raise
        raise PolicyError(
            f"detector {name} needs the extra guardproxy[{entry.extra}], which is not installed: {error}"
        ) from None
    warm_up = getattr(detector, "warm_up", None)
    if warm_up is not None:
        warm_up()
    return detector
