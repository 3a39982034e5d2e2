"""The detector API of the FMS guardrails orchestrator: `POST /api/v1/text/contents`, header `detector-id`.

Source: https://github.com/foundation-model-stack/fms-guardrails-orchestrator, docs/api/openapi_detector_api.yaml
(Apache-2.0). Detectors of that kind: https://pypi.org/project/guardrails-detectors/.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from guardproxy.core.content import Segment
from guardproxy.core.verdict import Finding, Span
from guardproxy.detectors.backends import Backend
from guardproxy.detectors.base import Content, Detector, Resources
from guardproxy.detectors.given import Given
from guardproxy.detectors.guard_models.reply import unreadable
from guardproxy.detectors.guard_models.served import writable
from guardproxy.errors import DetectorError

NAME = "fms"
ROUTE = "/api/v1/text/contents"
OTHER = "other"

_WORD = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Fms:
    """Sends all texts at once and reports what the server detects, with its spans.

    Args:
        backend: Where it is served.
        given: The guard's keys.
    """

    name = NAME
    inline = False

    def __init__(self, backend: Backend, given: Given) -> None:
        self.backends = (backend.name,)
        self.version = given.version(1, backend.name)
        self.longest = given.whole("hold_chars", 64, 0, 4096)
        self._backend = backend
        self._headers = {"detector-id": given.text("detector_id")}
        self._types = frozenset(given.words("types"))

    def held_suffix(self, text: str, fresh: int) -> int:
        """What is held of a stream, since a detection may begin there: `hold_chars`."""
        return min(self.longest, len(text) - fresh)

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """One finding for each detection. Its category is the server's `detection_type`, if that is a plain word."""
        if any(s.kind == "image" for s in content.segments):
            raise DetectorError("this detector sees no pictures: looks_at may not name image")
        shown = [s for s in content.segments if s.text]
        if not shown:
            return ()
        body: dict[str, object] = {"contents": [writable(s.text) for s in shown], "detector_params": {}}
        answer = await self._backend.post(ROUTE, body, content.deadline, self._headers)
        if not isinstance(answer, list) or len(answer) != len(shown):
            raise unreadable(f"expected {len(shown)} lists of detections")
        return tuple(
            finding
            for segment, listed in zip(shown, answer, strict=True)
            for finding in self._findings(segment, listed)
        )

    def _findings(self, segment: Segment, listed: object) -> list[Finding]:
        if not isinstance(listed, list):
            raise unreadable("detections are no list")
        found = []
        for one in listed:
            if not isinstance(one, Mapping):
                raise unreadable("a detection is no object")
            category = self._category(one.get("detection_type"))
            if category is not None:
                found.append(
                    Finding(NAME, category, _score(one.get("score")), segment.place, _span(one, segment.text))
                )
        return found

    def _category(self, kind: object) -> str | None:
        word = kind.lower().replace(" ", "_") if isinstance(kind, str) else ""
        word = word if _WORD.fullmatch(word) else OTHER
        if self._types:
            return word if word in self._types else None
        return word


def _score(score: object) -> float:
    if not isinstance(score, (int, float)) or isinstance(score, bool) or not math.isfinite(score):
        raise unreadable("a detection has no score")
    if not 0 <= score <= 1:
        raise unreadable("a score is not in [0, 1]")
    return float(score)


def _span(one: Mapping[object, object], text: str) -> Span:
    start, end = one.get("start"), one.get("end")
    if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start <= end <= len(text):
        raise unreadable("a detection stands outside of the text")
    return Span(start, end)


def build(parameters: Mapping[str, object], resources: Resources) -> Detector:
    """Keys: `detector_id` (required), `types` (only these detection types), `hold_chars` (of a stream)."""
    given = Given(parameters, NAME)
    return Fms(resources.backends.get(given.text("backend")), given)
