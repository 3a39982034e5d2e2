"""The verdict in OpenAI's own `moderation` field (`block.explain: categories`): categories and scores.

OpenAI's API reference, Chat Completions, `moderation`: results of input and output. Never the matched words, nor
the name of a rule: what the operator wrote into a policy stays there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from guardproxy.core.policy import Policy
from guardproxy.core.verdict import Finding, Span, Stage
from guardproxy.wire.dialect import Json

MODEL = "guardproxy"
UNNAMED = frozenset(("patterns", "prompt_leak", "image_hash"))
"""Detectors whose categories are the operator's own words: told by the detector's name."""

Findings = Mapping[tuple[Stage, str, str, str, Span | None], Finding]
"""By stage, guard, category, place and span; see `record.Observed`."""


def moderation(policy: Policy, findings: Findings) -> Json:
    """The field, from what the guards of an exchange have found so far."""
    thresholds = {g.name: g.threshold for g in policy.guards}
    return {
        stage.value: _results(
            (finding, finding.score >= thresholds.get(guard, 1.0))
            for (at, guard, *_), finding in findings.items()
            if at is stage
        )
        for stage in Stage
    }


def _results(found: Iterable[tuple[Finding, bool]]) -> Json:
    flags: dict[str, bool] = {}
    scores: dict[str, float] = {}
    kinds: dict[str, set[str]] = {}
    for finding, is_hit in found:
        category = finding.detector if finding.detector in UNNAMED else finding.category
        flags[category] = flags.get(category, False) or is_hit
        scores[category] = max(scores.get(category, 0.0), round(finding.score, 4))
        kinds.setdefault(category, set()).add("image" if "image" in finding.detector else "text")
    result: Json = {
        "type": "moderation_result",
        "model": MODEL,
        "flagged": any(flags.values()),
        "categories": flags,
        "category_scores": scores,
        "category_applied_input_types": {c: sorted(k) for c, k in kinds.items()},
    }
    return {"type": "moderation_results", "model": MODEL, "results": [result]}
