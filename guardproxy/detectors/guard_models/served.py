"""One detector for all guard models that are asked over HTTP: what is asked, piece by piece, and at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from guardproxy.core.canonical import SpecialTokens
from guardproxy.core.content import ImagePart, Segment
from guardproxy.core.policy import OUTPUT_KINDS
from guardproxy.core.verdict import Finding
from guardproxy.detectors.backends import Backend, Json
from guardproxy.detectors.base import Content, Resources
from guardproxy.detectors.given import Given
from guardproxy.detectors.guard_models.categories import CATEGORIES, UNSAFE
from guardproxy.errors import DetectorError

MAX_REQUESTS = 16
"""For one content: a longer one is refused, since nobody looks at what is not asked about."""
OVERLAP = 200
"""Characters that two pieces of a long text share, so that no sentence is only seen in halves."""
COMMON = ("backend", "max_chars", "logprobs", "ignore")
"""Keys that every served guard has."""

_HALVES = re.compile("[\ud800-\udfff]")
_CONTROL = SpecialTokens(("[SEP]", "[CLS]", "[MASK]", "<guardian>", "<score>", "</score>"))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """What one request is about.

    Attributes:
        question: What the user wrote: what is judged, or what the answer is judged against.
        answer: What the model wrote and is judged; None where the question is.
        picture: `data:` URL of a picture that is judged together with the question.
        place: Where that stands.
    """

    question: str
    answer: str | None = None
    picture: str | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """What a guard model says: a category of ours and the risk in [0, 1]."""

    category: str
    score: float


class GuardModel(Protocol):
    """How one kind of guard model is asked and read."""

    @property
    def path(self) -> str:
        """Of the route."""

    def bodies(self, asked: Asked) -> Sequence[Json]:
        """The requests for one thing to be judged, without the model's name: mostly one."""

    def read(self, answers: Sequence[object], asked: Asked) -> Sequence[Label]:
        """What the answers say, one for each request.

        Raises:
            DetectorError: `unreadable`.
        """


@dataclass(frozen=True, slots=True)
class Sight:
    """What a guard model can look at."""

    texts: bool = True
    pictures: bool = False


class ServedGuard:
    """Asks a guard model about texts, answers and pictures.

    A request's texts are asked about as two: what the last turn says, and everything before it and beside it.
    An answer is asked about together with its question, a picture together with the last user turn.
    """

    inline = False

    def __init__(self, name: str, backend: Backend, model: GuardModel, given: Given, sight: Sight) -> None:
        self.name = name
        self.backends = (backend.name,)
        self.version = given.version(1, backend.name, backend.model)
        self._backend = backend
        self._model = model
        self._sight = sight
        self._max_chars = given.whole("max_chars", 12_000, 2 * OVERLAP, 1_000_000)
        self._ignored = frozenset(given.words("ignore", allowed=(*CATEGORIES, UNSAFE)))

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """One finding for each label; one of category `unsafe` with a low score where all is well."""
        asked = self._asked(content)
        if len(asked) > MAX_REQUESTS:
            raise DetectorError(
                f"{len(asked)} requests of {self._max_chars} characters would be needed, at most {MAX_REQUESTS}",
                "overloaded",
            )
        found = await together([self._ask(one, content.deadline) for one in asked])
        return tuple(finding for findings in found for finding in findings)

    async def _ask(self, asked: Asked, deadline: float) -> list[Finding]:
        named: Json = {"model": self._backend.model} if self._backend.model else {}
        bodies = self._model.bodies(asked)
        answers = await together(
            [self._backend.post(self._model.path, {**named, **body}, deadline) for body in bodies]
        )
        return [
            Finding(self.name, label.category, label.score, asked.place)
            for label in self._model.read(answers, asked)
            if label.category not in self._ignored
        ]

    def _asked(self, content: Content) -> list[Asked]:
        texts = [s for s in content.segments if s.kind != "image" and s.text.strip()]
        pictures = [s for s in content.segments if s.kind == "image"]
        if texts and not self._sight.texts:
            raise DetectorError("this guard model reads no text: looks_at may only name image")
        if pictures and not self._sight.pictures:
            raise DetectorError("this guard model sees no pictures: looks_at may not name image")
        question = tamed(shortened(content.context, self._max_chars))
        asked = [Asked(question, None, url_of(p.image), p.place) for p in pictures if p.image is not None]
        if texts and texts[0].kind in OUTPUT_KINDS:
            return asked + [
                Asked(question, tamed(piece), None, s.place)
                for s in texts
                for piece in pieces(s.text, self._max_chars)
            ]
        return asked + [
            Asked(tamed(piece), None, None, group[0].place)
            for group in groups(texts)
            for piece in pieces("\n\n".join(s.text for s in group), self._max_chars)
        ]


def url_of(picture: ImagePart) -> str:
    """The canonical picture as a `data:` URL: what the model gets, too."""
    return picture.sent[1:-1].decode("ascii")


def tamed(text: str) -> str:
    """The text with control tokens broken: vLLM takes them for its own wherever they stand, in an answer too."""
    return _CONTROL.neutralise(writable(text))


def writable(text: str) -> str:
    """The text with half a character, which JSON cannot carry, replaced. It keeps its length."""
    return text if text.isascii() else _HALVES.sub("\ufffd", text)


def groups(texts: Sequence[Segment]) -> list[list[Segment]]:
    """The last turn's texts, and before it all others."""
    last = max((s.turn for s in texts), default=-1)
    found = [[s for s in texts if s.turn != last], [s for s in texts if s.turn == last]]
    return [group for group in found if group]


def pieces(text: str, longest: int) -> list[str]:
    """A text in pieces of at most `longest` characters that overlap."""
    if len(text) <= longest:
        return [text]
    step = longest - OVERLAP
    return [text[at : at + longest] for at in range(0, len(text) - OVERLAP, step)]


def shortened(text: str, longest: int) -> str:
    """Beginning and end of a text that is only context."""
    if len(text) <= longest:
        return text
    return f"{text[: longest // 2]}\n…\n{text[-(longest // 2) :]}"


async def together(coroutines: Sequence[Coroutine[object, object, T]]) -> list[T]:
    """Await them at once; the first fault ends the others and is raised."""
    if len(coroutines) == 1:
        return [await coroutines[0]]
    tasks = [asyncio.ensure_future(c) for c in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def backend_of(given: Given, resources: Resources) -> Backend:
    """The back end that a guard names.

    Raises:
        PolicyError: It names none, or one that the settings do not have.
    """
    return resources.backends.get(given.text("backend"))


def chat_body(messages: list[Json], max_tokens: int, logprobs: bool, top: int = 10, **more: object) -> Json:
    """A chat completion request that is answered the same way each time.

    `top` is how many tokens are told that could have stood at each place; vLLM tells 20 at most.
    """
    body: Json = {"messages": messages, "max_tokens": max_tokens, "temperature": 0, **more}
    return {**body, "logprobs": True, "top_logprobs": top} if logprobs else body


def turns(asked: Asked) -> list[Json]:
    """The question, with its picture before it, and the answer, as turns of a chat."""
    content: object = asked.question
    if asked.picture is not None:
        content = [{"type": "image_url", "image_url": {"url": asked.picture}}]
        if asked.question.strip():
            content.append({"type": "text", "text": asked.question})
    messages: list[Json] = [{"role": "user", "content": content}]
    if asked.answer is not None:
        messages.append({"role": "assistant", "content": asked.answer})
    return messages
