"""`guardproxy look`: what a policy sees in one text or picture, and decides, for people."""

from __future__ import annotations

import mimetypes
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from guardproxy.commands.looking import Case, Looked, Looker
from guardproxy.core.content import ImagePart
from guardproxy.core.policy import Policy
from guardproxy.core.verdict import Finding, GuardVerdict, Stage
from guardproxy.detectors.image_hash import perceptual
from guardproxy.errors import RowError
from guardproxy.images.decode import opened

BAR = 20


def run(  # noqa: PLR0913 - one for each of the command's arguments
    what: Sequence[str],
    answer: str | None,
    name: str,
    directory: Path | None,
    config: Path | None = None,
    out: Path | None = None,
) -> int:
    """Look at each thing; returns 0.

    Args:
        what: Texts, text files or pictures.
        answer: A model's answer, judged too.
        name: Of the policy.
        directory: Of policies.
        config: Settings, for served guards.
        out: Where the picture is drawn with what was read in it; with several, their number is added.

    Raises:
        PolicyError: The policies are wrong, or none has that name.
        RowError: A file is neither a picture nor a text.
        OSError: `out` cannot be written.
    """
    looker = Looker(name, directory, config)
    try:
        for number, one in enumerate(what, 1):
            case = _case(one, answer)
            looked = looker.run(looker.look(case, (Stage.INPUT, Stage.OUTPUT)))
            sys.stdout.write("\n".join(report(one, looked, looker.policy)) + "\n")
            pictures = [each.picture for each in looked if each.picture is not None]
            if out is not None and pictures:
                place = out if len(what) == 1 else out.with_stem(f"{out.stem}-{number}")
                drawn(pictures[0]).save(place, "PNG")
                sys.stdout.write(f"  drawn: {place}\n")
    finally:
        looker.close()
    return 0


def _case(what: str, answer: str | None) -> Case:
    path = Path(what)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # a long text is no name of a file
        is_file = False
    is_picture = len(what) < 4096 and (mimetypes.guess_type(what)[0] or "").startswith("image/")
    if is_picture and not is_file and not any(map(str.isspace, what)):
        raise RowError(f"{what}: no such picture")
    if not is_file:
        return Case(what, answer)
    if is_picture:
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
            yield from (f"    {line}" for line in _picture(one.picture))
        for guard in verdict.guards:
            yield from (f"    {line}" for line in _guard(guard, policy))


def _picture(picture: ImagePart) -> Iterator[str]:
    kind = picture.sent[len('"data:') :].partition(b";")[0].decode()
    yield f"picture {picture.width} x {picture.height}, sent on as {kind}"
    yield f"  sha256 of the file      {picture.source_sha256}"
    yield f"  sha256 as it is sent on {picture.sha256}"
    yield f"  perceptual              {perceptual(picture).split()[0]}"
    for read in picture.texts:
        yield f"  {read.place.rpartition('/')[2]:<8} {read.confidence:.2f} {read.box}  {read.text}"


def drawn(picture: ImagePart) -> Image.Image:
    """The picture as it is sent on, with what was read in it framed and numbered."""
    image = opened(picture.sent).convert("RGB")
    brush = ImageDraw.Draw(image)
    for number, read in enumerate(picture.texts):
        brush.rectangle(read.box, outline=(220, 20, 60), width=max(2, image.width // 600))
        brush.text((read.box[0], max(read.box[1] - 14, 0)), str(number), fill=(220, 20, 60), font_size=12)
    return image


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
