"""`guardproxy look`: what a policy sees in one text or picture, and decides, for people."""

from __future__ import annotations

import asyncio
import mimetypes
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from guardproxy.commands.looking import Case, Looked, Looker
from guardproxy.core.policy import Policy
from guardproxy.core.verdict import Finding, GuardVerdict, Stage
from guardproxy.errors import RowError

BAR = 20


def run(
    what: Sequence[str], answer: str | None, name: str, directory: Path | None, config: Path | None = None
) -> int:
    """Look at each thing; returns 0.

    Raises:
        PolicyError: The policies are wrong, or none has that name.
        RowError: A file is neither a picture nor a text.
    """
    looker = Looker(name, directory, config)
    try:
        for one in what:
            case = _case(one, answer)
            looked = asyncio.run(_looked(looker, case))
            sys.stdout.write("\n".join(report(one, looked, looker.policy)) + "\n")
    finally:
        looker.close()
    return 0


async def _looked(looker: Looker, case: Case) -> list[Looked]:
    try:
        return await looker.look(case, (Stage.INPUT, Stage.OUTPUT))
    finally:
        await looker.rest()


def _case(what: str, answer: str | None) -> Case:
    path = Path(what)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # a long text is no name of a file
        is_file = False
    if not is_file:
        return Case(what, answer)
    if (mimetypes.guess_type(path.name)[0] or "").startswith("image/"):
        return Case("", answer, path)
    try:
        return Case(path.read_text("utf-8"), answer)
    except UnicodeDecodeError:
        raise RowError(f"{path}: neither a picture (by its name) nor a text in UTF-8") from None


def report(what: str, looked: Sequence[Looked], policy: Policy) -> Iterator[str]:
    """Lines for people."""
    yield f"{what if len(what) <= 72 else what[:71] + '…'}   [{policy.name} {policy.version}]"
    for one in looked:
        verdict = one.verdict
        wanted = "" if verdict.wanted is verdict.action else f" (would: {verdict.wanted.label})"
        yield f"  {one.stage.value}: {verdict.action.label}{wanted}, {one.ms:.1f} ms"
        if one.picture is not None:
            yield f"    picture {one.picture.width} x {one.picture.height}, sha256 {one.picture.sha256[:16]}"
        for guard in verdict.guards:
            yield from (f"    {line}" for line in _guard(guard, policy))


def _guard(verdict: GuardVerdict, policy: Policy) -> Iterator[str]:
    if verdict.failure is not None:
        yield f"{verdict.guard:<24} could not look: {verdict.failure.reason}"
        return
    guard = next(g for g in policy.guards if g.name == verdict.guard)
    act = guard.on_hit.label if guard.acts else "record"
    if not verdict.findings:
        yield f"{guard.name:<24} nothing"
    for finding in verdict.findings:
        mark = "≥" if finding.score >= guard.threshold else "<"
        counts = finding.detector == guard.detector  # a cascade's stages are shown, and decide nothing
        hit = f" → {act}" if finding.score >= guard.threshold and counts else ""
        bar = "█" * round(finding.score * BAR)
        yield (
            f"{guard.name:<24} {bar:·<{BAR}} {finding.score:.3f} {mark} {guard.threshold:g}{hit}"
            f"  {_where(finding)}"
        )


def _where(finding: Finding) -> str:
    span = "" if finding.span is None else f" [{finding.span.start}:{finding.span.end}]"
    return f"{finding.category} in {finding.place}{span}"
