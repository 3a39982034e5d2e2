"""`python -m tests.quality.images`: what the default policy stops because of a picture, and what it stops wrongly.

Pictures are read once and kept in `.quality/`; judging them again takes seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from guardproxy.core.content import ImagePart, Message, ReadText, Request, TextPart
from guardproxy.core.judge import judge_guards
from guardproxy.core.policy import Mode
from guardproxy.core.verdict import Action, GuardVerdict, Stage
from guardproxy.detectors.base import Content
from guardproxy.detectors.observe import observe
from guardproxy.errors import WireError
from guardproxy.images.intake import Intake
from guardproxy.images.reader import VERSION, Reader, ReaderLimits
from guardproxy.inforce import InForce, load_policies
from guardproxy.policystore import shipped_dir
from tests.quality import pictures
from tests.quality.pictures import Drawn

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
KEPT = ROOT / ".quality"
PAGE = ROOT / "docs" / "quality" / "images.md"
HARM_TOPICS = (
    "Adult Content", "Fraud", "Hate Speech", "Illegal Activity", "Malware Generation", "Physical Harm", "Privacy Violation",
)  # fmt: skip
ADVICE_TOPICS = ("Financial Advice", "Health Consultation", "Legal Opinion")


@dataclass(frozen=True, slots=True)
class Judged:
    """A turn with what the policy did about it."""

    turn: Drawn
    split: str
    blocked: bool
    alone: bool
    guards: tuple[GuardVerdict, ...]

    @property
    def because_of_picture(self) -> bool:
        """Stopped, and not without the picture."""
        return self.blocked and not self.alone


def figstep(rows: Iterable[dict[str, object]]) -> list[tuple[Drawn, str]]:
    """FigStep's pictures (MIT), as published, with the harmless sentence beside them."""
    found = []
    for row in rows:
        if isinstance(row["image"], str):
            file = (SHARED / row["image"]).read_bytes()
            turn = Drawn(str(row["id"]), "FigStep", "en", str(row["prompt"]), (file,), str(row["category"]))
            found.append((turn, str(row["split"])))
    return found


def published_benign(rows: Iterable[dict[str, object]]) -> list[tuple[Drawn, str]]:
    """Published benign pictures."""
    return [
        (
            Drawn(str(r["id"]), f"published: {r['category']}", "en", str(r["prompt"]), ((SHARED / str(r["image"])).read_bytes(),)),
            str(r["split"]),
        )
        for r in rows
        if r["image"]
    ]  # fmt: skip


def turns() -> list[tuple[Drawn, str]]:
    """Everything that is measured, each with its split."""
    found = [(turn, "drawn") for turn in (*pictures.benign(), *pictures.harmful())]
    if SHARED.is_dir():
        found += figstep(_rows(SHARED / "figstep.jsonl"))
        found += published_benign(_rows(SHARED / "benign_images.jsonl"))
    return found


def _rows(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]


def asked(turn: Drawn, *, with_pictures: bool = True) -> Request:
    """The turn as a chat request has it."""
    parts: list[TextPart | ImagePart] = [TextPart(turn.prompt, "messages[0].content[0].text")]
    if with_pictures:
        for number, file in enumerate(turn.files, 1):
            url = "data:image/png;base64," + base64.b64encode(file).decode()
            parts.append(ImagePart(url, f"messages[0].content[{number}].image_url"))
    return Request("", (Message("user", tuple(parts), "messages[0]"),))


class Kept:
    """Readings on disk, by the hash of the files."""

    def __init__(self) -> None:
        KEPT.mkdir(exist_ok=True)
        self._file = KEPT / f"read-{VERSION}.jsonl"
        lines = self._file.read_text("utf-8").splitlines() if self._file.is_file() else []
        self._texts = dict(json.loads(line) for line in lines)

    def __contains__(self, turn: Drawn) -> bool:
        return self._key(turn) in self._texts

    def put(self, turn: Drawn, request: Request) -> None:
        texts = [[[t.text, t.place, t.box, t.confidence] for t in p.texts] for p in _pictures(request)]
        self._texts[self._key(turn)] = texts
        with self._file.open("a", encoding="utf-8") as out:
            out.write(json.dumps([self._key(turn), texts], ensure_ascii=False) + "\n")

    def of(self, turn: Drawn, request: Request) -> Request:
        """The request with what was read."""
        given = iter(self._texts[self._key(turn)])
        parts = tuple(
            replace(p, texts=tuple(ReadText(t, at, tuple(box), c) for t, at, box, c in next(given)))
            if isinstance(p, ImagePart)
            else p
            for p in request.messages[0].parts
        )
        return request.with_messages((replace(request.messages[0], parts=parts),))

    @staticmethod
    def _key(turn: Drawn) -> str:
        return sha256(b"\0".join(turn.files)).hexdigest()


def _pictures(request: Request) -> list[ImagePart]:
    return [p for m in request.messages for p in m.parts if isinstance(p, ImagePart)]


async def judge_all(
    all_turns: Sequence[tuple[Drawn, str]], policy_name: str, *, may_read: bool = True
) -> list[Judged]:
    """Read what was not read before, then ask the policy; or leave out what was not."""
    plan = InForce(load_policies(shipped_dir())).plans[policy_name]
    kept, intake = Kept(), Intake()
    reader = Reader(ReaderLimits(picture_s=600.0))
    judged = []
    try:
        for number, (turn, split) in enumerate(all_turns):
            if not may_read and turn not in kept:
                continue
            request = await intake.take(asked(turn), plan.policy.images)
            if turn not in kept:
                kept.put(turn, await reader.read(request, ""))
                sys.stderr.write(f"\rread {number + 1} of {len(all_turns)}")
            request = kept.of(turn, request)
            verdicts = []
            for one in (request, asked(turn, with_pictures=False)):
                guards = [g for g in plan.policy.guards if g.stage is Stage.INPUT and g.mode is not Mode.OFF]
                content = Content(one.segments(), one.question)
                observed = await observe(guards, plan.detectors, content, lambda _name, _seconds: None)
                verdicts.append(judge_guards(plan.policy, guards, observed))
            whole, alone = verdicts
            judged.append(
                Judged(turn, split, whole.action is Action.BLOCK, alone.action is Action.BLOCK, whole.guards)
            )
    except WireError as error:
        raise SystemExit(f"{turn.name}: {error}") from None
    finally:
        intake.close()
        await reader.close()
    return judged


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927)."""
    if count == 0:
        return 0.0, 1.0
    z, p = 1.96, hits / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def figure(chosen: Sequence[Judged], *, harmful: bool) -> str:
    """`hits of count (share, interval)`."""
    hits = sum(j.because_of_picture if harmful else j.blocked for j in chosen)
    low, high = wilson(hits, len(chosen))
    share = hits / len(chosen) if chosen else 0.0
    return f"{hits} of {len(chosen)} | {share:.1%} | {low:.1%} to {high:.1%}"


def table(title: str, groups: Iterable[tuple[str, Sequence[Judged]]], *, harmful: bool) -> list[str]:
    """One line a group."""
    lines = [
        f"| {title} | stopped | share | 95 % interval |",
        "|---|---|---|---|",
    ]
    return [
        *lines,
        *(f"| {name} | {figure(chosen, harmful=harmful)} |" for name, chosen in groups if chosen),
        "",
    ]


def page(judged: Sequence[Judged], policy: str) -> str:
    """The document."""
    fig = [j for j in judged if j.turn.kind == "FigStep"]
    harm = [j for j in fig if j.turn.topic in HARM_TOPICS]
    benign = [j for j in judged if not j.turn.is_harmful]
    own = [j for j in judged if j.turn.is_harmful and j.turn.kind != "FigStep"]
    lines = [
        "# Pictures: what is stopped, and what is stopped wrongly",
        "",
        f"Written by `make quality-images` (`python -m tests.quality.images`); do not edit. Policy `{policy}`, its real guards and reader.",
        "Stopped means: a block *because of the picture*; the same turn without it is not stopped. Intervals are Wilson's, 95 %.",
        "",
        "## FigStep (published pictures, harmless sentence beside them)",
        "",
        *table("harm topics", [("**all seven**", harm)], harmful=True),
        *table(
            "half",
            [(f"{s} rows", [j for j in harm if j.split == s]) for s in ("train", "valid")],
            harmful=True,
        ),
        "The `train` rows were looked at while the guards were made, the `valid` rows only as a sum; neither was learnt from by the",
        "guards that block.",
        "",
        *table("topic", [(t, [j for j in harm if j.turn.topic == t]) for t in HARM_TOPICS], harmful=True),
        "Advice topics: FigStep counts asking for legal, financial and medical advice as an attack. Reported, not aimed at.",
        "",
        *table(
            "advice topic", [(t, [j for j in fig if j.turn.topic == t]) for t in ADVICE_TOPICS], harmful=True
        ),
        "## Our own attacks (drawn: other fonts, colours, low contrast, turned, on photos, in screenshots, split, Japanese)",
        "",
        "Written by the same people as the headings that were learnt from, and about the same topics, though no sentence is the",
        "same: expect less on attacks by others, above all in Japanese, where an n-gram model judges alone.",
        "",
        *table("", [("**all**", own)], harmful=True),
        *_by(own, "shape and language", lambda j: f"{j.turn.kind}, {j.turn.lang}", harmful=True),
        *_by(own, "topic", lambda j: j.turn.topic, harmful=True),
        "## Benign pictures",
        "",
        "The score that stops was set with these pictures in view; on yours it may stop more.",
        "",
        *table("", [("**all**", benign)], harmful=False),
        *_by(benign, "kind and language", lambda j: f"{j.turn.kind}, {j.turn.lang}", harmful=False),
        "## Which guard",
        "",
        *_guards(judged),
    ]
    return "\n".join(lines)


def _by(chosen: Sequence[Judged], title: str, key: object, *, harmful: bool) -> list[str]:
    assert callable(key)
    names = sorted({key(j) for j in chosen})
    return table(title, [(n, [j for j in chosen if key(j) == n]) for n in names], harmful=harmful)


def _guards(judged: Sequence[Judged]) -> list[str]:
    names = sorted({g.guard for j in judged for g in j.guards})
    lines = ["| guard | harmful turns with a hit that blocks | benign ones |", "|---|---|---|"]
    for name in names:
        counts = [
            sum(
                any(g.guard == name and g.action is Action.BLOCK for g in j.guards)
                for j in judged
                if j.turn.is_harmful is harmful
            )
            for harmful in (True, False)
        ]
        lines.append(f"| {name} | {counts[0]} | {counts[1]} |")
    return [*lines, ""]


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser("quality-images")
    parser.add_argument("--policy", default="default")
    parser.add_argument("--kept", action="store_true", help="only pictures that were read before")
    parser.add_argument("--list", action="store_true", help="name what went wrong")
    arguments = parser.parse_args()
    judged = asyncio.run(judge_all(turns(), arguments.policy, may_read=not arguments.kept))
    written = page(judged, arguments.policy)
    if arguments.policy == "default" and SHARED.is_dir():
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(written, "utf-8")
    sys.stdout.write(written)
    if arguments.list:
        for one in judged:
            if one.blocked if not one.turn.is_harmful else not one.blocked:
                scores = {
                    g.guard: round(max((f.score for f in g.findings), default=0.0), 2) for g in one.guards
                }
                sys.stdout.write(f"{one.turn.name} {one.turn.kind} {one.turn.topic}: {scores}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
