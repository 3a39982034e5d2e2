"""What a policy decides about one text, picture or answer, without a server: for `score` and `look`."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import pybase64

from guardproxy import settings
from guardproxy.app import resources_of
from guardproxy.core.canonical import SpecialTokens, canonical
from guardproxy.core.content import ImagePart, Message, Part, Request, Segment, TextPart
from guardproxy.core.judge import judge_guards
from guardproxy.core.policy import Mode
from guardproxy.core.verdict import Action, Failure, GuardVerdict, Stage, Verdict
from guardproxy.detectors.base import Content, Resources
from guardproxy.detectors.observe import observe
from guardproxy.errors import DetectorError, PolicyError, WireError
from guardproxy.images.intake import Intake
from guardproxy.images.reader import Reader, ReaderLimits, Reading, pictures_of
from guardproxy.inforce import InForce, load_policies
from guardproxy.policystore import shipped_dir
from guardproxy.telemetry.metrics import Metrics
from guardproxy.yamldoc import suggest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Case:
    """What is looked at: a user's turn, and perhaps an answer to it."""

    prompt: str = ""
    response: str | None = None
    image: Path | None = None


@dataclass(frozen=True, slots=True)
class Looked:
    """A policy's verdict about one side of a case; `ms` is wall time."""

    stage: Stage
    verdict: Verdict
    ms: float
    picture: ImagePart | None = None


class Looker:
    """Asks every guard of one policy, those that only record too.

    Args:
        name: Of the policy.
        directory: Of policies; the shipped ones if None.
        config: Settings, for the back ends of served guards; without it such a guard fails.

    Raises:
        PolicyError: The policies are wrong, or none has that name.
        SettingsError: The settings are.
    """

    def __init__(self, name: str, directory: Path | None = None, config: Path | None = None) -> None:
        self._resources = resources_of(settings.load(config, {}), Metrics()) if config else Resources()
        plans = InForce(load_policies(directory or shipped_dir(), self._resources)).plans
        if name not in plans:
            raise PolicyError(f"no policy named {name!r}{suggest(name, plans)}")
        self._plan = plans[name]
        self.policy = self._plan.policy
        self._tokens = SpecialTokens()
        self._intake = Intake(workers=1)
        self._reader = Reader(ReaderLimits(picture_s=600.0), tokens=self._tokens)
        self._loop = asyncio.Runner()

    def run(self, work: Coroutine[None, None, T]) -> T:
        """Do something in the looker's own event loop, in which its processes live."""
        return self._loop.run(work)

    async def look(self, case: Case, stages: Sequence[Stage]) -> list[Looked]:
        """The verdict for each stage asked for; `output` only where there is a response."""
        found: list[Looked] = []
        for stage in stages:
            if stage is Stage.INPUT:
                found.append(await self._look_in(case))
            elif case.response is not None:
                hits = found[0].verdict.hits if found else frozenset()
                found.append(await self._look_out(case, case.response, hits))
        return found

    async def _look_in(self, case: Case) -> Looked:
        started = perf_counter()
        block = self.policy.block.message
        picture = None
        try:
            request = canonical(_request(case), self._tokens, (block.en, block.ja))
            request = await self._intake.take(request, self.policy.images)
            request, content = await self._read(request)
            picture = next(iter(pictures_of(request)), None)
            verdict = await self._judge(Stage.INPUT, content)
        except WireError as error:  # the proxy would answer with a 4xx: nothing would reach the model
            failure = Failure("intake", error.code or "unreadable")
            verdict = Verdict(
                Action.BLOCK, Action.BLOCK, (GuardVerdict("intake", Action.BLOCK, Action.BLOCK, (), failure),)
            )
        return Looked(Stage.INPUT, verdict, (perf_counter() - started) * 1000, picture)

    async def _read(self, request: Request) -> tuple[Request, Content]:
        """What guards are shown; what they read in pictures is read before, outside of their budgets."""
        if not (self._plan.reads_pictures and pictures_of(request)):
            return request, Content(request.segments(), request.question)
        reading = Reading(request, partial(self._reader.read, tenant=""))
        with suppress(DetectorError):  # each guard is told once more, and fails
            await reading.segments()
        return reading.request, Content(request.segments(), request.question, read=reading.segments)

    async def _look_out(self, case: Case, response: str, hits: frozenset[str]) -> Looked:
        started = perf_counter()
        segment = Segment("content", "choices[0].content", response, untrusted=True)
        verdict = await self._judge(Stage.OUTPUT, Content((segment,), case.prompt), hits)
        return Looked(Stage.OUTPUT, verdict, (perf_counter() - started) * 1000)

    async def _judge(self, stage: Stage, content: Content, hits: frozenset[str] = frozenset()) -> Verdict:
        guards = [g for g in self.policy.guards if g.stage is stage and g.mode is not Mode.OFF]
        observed = await observe(
            guards, self._plan.detectors, content, lambda _name, _seconds: None, exact=True
        )
        return judge_guards(self.policy, guards, observed, hits)

    def close(self) -> None:
        """Stop the threads and processes, and close connections, before the loop ends that they belong to."""
        self._intake.close()
        self._loop.run(self._reader.close())
        self._loop.run(self._resources.backends.close())
        self._loop.close()


def _request(case: Case) -> Request:
    parts: list[Part] = [TextPart(case.prompt, "messages[0].content[0].text")]
    if case.image is not None:
        parts.append(ImagePart(data_url(case.image), "messages[0].content[1]"))
    return Request("", (Message("user", tuple(parts), "messages[0]"),))


def data_url(path: Path) -> str:
    """A file as a `data:` URL, its type guessed from its name (nobody believes it)."""
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{pybase64.b64encode(path.read_bytes()).decode('ascii')}"
