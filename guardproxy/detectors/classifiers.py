"""The four embedded classifiers: `jailbreak`, `harmful_request`, `harmful_answer`, `refusal`.

An n-gram model answers what is clear in a tenth of a millisecond; what it doubts, and can be read, a
small encoder reads too, in a thread, where a reading could bring it to the guard's threshold. Of answers a student
foretells that: n-gram weights that were fitted to the encoder's own logits. What all of them miss says the model card
beside the weights.
"""

from __future__ import annotations

import asyncio
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from guardproxy.core.content import Segment
from guardproxy.core.verdict import Finding
from guardproxy.detectors import glosses
from guardproxy.detectors.base import Content, Detector, Memo, Resources
from guardproxy.detectors.encoder import (
    HEADS,
    MAX_MIDDLE,
    Encoder,
    Logits,
    middle_pieces,
)
from guardproxy.detectors.glosses import LATIN, OTHER, script
from guardproxy.detectors.joined import ends, judged_texts
from guardproxy.detectors.ngram import MAX_REMEMBERED, NgramModel, logistic
from guardproxy.detectors.offload import Offload
from guardproxy.errors import PolicyError

WEIGHTS = Path(__file__).parent / "weights"
REFUSAL_CHARS = 600
"""An answer declines at its start, or not at all."""


@dataclass(frozen=True, slots=True)
class Sum:
    """How an n-gram model's calibrated logit and the encoder's, of the head of the same name, are added up.

    Attributes:
        ngram: Weight of the former.
        encoder: Weight of the latter.
        bias: Added.
        most: No logit of the encoder counts for more: what an n-gram logit cannot reach with this, no reading will.
    """

    ngram: float
    encoder: float
    bias: float
    most: float

    def of(self, ngram: float, encoder: float) -> float:
        """The log-odds by both models."""
        return self.bias + self.ngram * ngram + self.encoder * min(encoder, self.most)


@dataclass(frozen=True, slots=True)
class Joint:
    """What is made of both models' logits by one classifier; fitted on sources kept apart.

    Attributes:
        sums: For each script that the encoder reads.
        doubt_from: N-gram logit of a Latin text below which the encoder is not asked.
        alone_slope: Below it: how the sum mostly follows from the n-gram logit alone.
        alone_bias: As above.
        other_slope: For a text that is not read, in another script than Latin: of the n-gram logit, so that one
            threshold means like shares of false stops in both.
        other_bias: As above.
    """

    sums: Mapping[str, Sum]
    doubt_from: float
    alone_slope: float
    alone_bias: float
    other_slope: float
    other_bias: float

    @classmethod
    def load(cls, path: Path, name: str) -> Joint:
        """One classifier's, out of `encoder.json`."""
        stated = json.loads(path.read_text("utf-8"))[name]
        return cls(**stated | {"sums": {script: Sum(**one) for script, one in stated["sums"].items()}})

    def both(self, script: str, ngram: float, encoder: float) -> float:
        """The log-odds by both models."""
        return self.sums[script].of(ngram, encoder)

    def unread(self, script: str, ngram: float) -> float:
        """The log-odds by n-grams alone."""
        if script == LATIN:
            return self.alone_bias + self.alone_slope * ngram
        return self.other_bias + self.other_slope * ngram

    def is_clear(self, script: str, ngram: float) -> bool:
        """Whether there is nothing to read: the n-gram model is sure, or the encoder cannot."""
        return script == OTHER or (script == LATIN and ngram < self.doubt_from)


@cache
def _model(name: str) -> NgramModel:
    return NgramModel.load(WEIGHTS / f"{name}.npz")


@cache
def _student() -> NgramModel:
    """Foretells from the n-grams of an answer what the encoder will say of it at most; distilled from it."""
    return NgramModel.load(WEIGHTS / "student.npz")


@cache
def _encoder() -> Encoder:
    return Encoder(WEIGHTS)


@cache
def _joint(name: str) -> Joint:
    return Joint.load(WEIGHTS / "encoder.json", name)


def _read_text(text: str) -> Logits:
    """Of a long text, the pieces that the n-gram models find riskiest are read too."""
    pieces = middle_pieces(text)
    if len(pieces) <= MAX_MIDDLE:
        return _encoder().read(text, pieces)
    chosen: set[str] = set()
    for name in ("jailbreak", "harmful_request"):
        chosen |= set(sorted(pieces, key=_model(name).logit)[-MAX_MIDDLE // 2 :])
    return _encoder().read(text, sorted(chosen))


async def _once(memo: Memo, key: tuple[object, ...], offload: Offload, work: Callable[[], Logits]) -> Logits:
    """Run in a thread, once for all detectors of an exchange that ask for the same."""
    task = memo.get(key)
    if not isinstance(task, asyncio.Task):
        if len(memo) >= MAX_REMEMBERED:
            memo.clear()
        task = memo[key] = asyncio.ensure_future(offload.run(work))
    # Shielded: one guard's budget may end while another still waits for the same answer.
    found: Logits = await asyncio.shield(task)
    return found


@dataclass(frozen=True, slots=True)
class _Asked:
    """A text to score.

    Attributes:
        script: What it is written in.
        question: Beside which it is read, if it is an answer.
        lowered: What its log-odds are lowered by, for the texts beside it; negative: raised, for what is still to come.
        matters_from: Log-odds that decide something; how far below them a text lies need not be found out.
    """

    place: str
    text: str
    script: str
    question: str | None
    memo: Memo
    lowered: float
    matters_from: float


class _Classifier(ABC):
    """An n-gram model, and the encoder behind it unless a guard says `encoder: false`."""

    def __init__(self, name: str, parameters: Mapping[str, object], resources: Resources) -> None:
        self.name = name
        self._model = _model(name)
        self._joint = _joint(name)
        self._offload = resources.offload
        self._is_read = parameters.get("encoder", True)
        if not isinstance(self._is_read, bool):
            raise PolicyError(f"encoder: expected true or false, got {self._is_read!r}")
        self.inline = not self._is_read
        models = self._model.version, _student().version, _encoder().version, glosses.version()
        stated = f"{models} {self._joint} {self._is_read}"
        self.version = sha256(stated.encode()).hexdigest()[:12]

    def warm_up(self) -> None:
        """Score once, so that the first request does not pay for what is made when needed."""
        self._model.score_pair("warm", "up")
        _encoder().read("warm up")
        glosses.warm_up()

    def at_once(self, content: Content) -> tuple[Finding, ...] | None:
        """What `detect` says where nothing has to be read for it; None if something has."""
        texts, logits = self._texts(content), list[float]()
        for asked in texts:
            logit = self._unread(asked)
            if logit is None:
                return None
            logits.append(logit)
        return self._findings(texts, logits)

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """One finding for each place."""
        texts = self._texts(content)
        logits = await asyncio.gather(*(self._logit(asked, content) for asked in texts))
        return self._findings(texts, logits)

    async def _logit(self, asked: _Asked, content: Content) -> float:
        known = self._unread(asked)
        if known is not None:
            return known
        ngram = self._model.logit(asked.text, asked.question, asked.memo)
        read = await self._read(asked, content)
        return self._joint.both(asked.script, ngram, float(read[HEADS.index(self.name)]))

    def _unread(self, asked: _Asked) -> float | None:
        """The log-odds where the encoder need not be asked: it cannot read the text, or nothing it says decides."""
        joint = self._joint
        ngram = self._model.logit(asked.text, asked.question, asked.memo)
        unread = joint.unread(asked.script, ngram)
        if not self._is_read or joint.is_clear(asked.script, ngram):
            return unread
        highest = joint.both(asked.script, ngram, math.inf)
        if highest >= asked.matters_from > -math.inf and asked.script == LATIN:
            highest = joint.both(asked.script, ngram, self._most(asked))
        return min(unread, highest) if highest < asked.matters_from else None

    def _findings(self, texts: Sequence[_Asked], logits: Sequence[float]) -> tuple[Finding, ...]:
        """Of the texts of one place, the riskiest counts."""
        highest: dict[str, float] = {}
        for asked, logit in zip(texts, logits, strict=True):
            highest[asked.place] = max(logit - asked.lowered, highest.get(asked.place, -math.inf))
        return tuple(Finding(self.name, self.name, logistic(one), place) for place, one in highest.items())

    @abstractmethod
    def _texts(self, content: Content) -> list[_Asked]:
        """What is scored of the content."""

    @abstractmethod
    async def _read(self, asked: _Asked, content: Content) -> Logits:
        """What the encoder says of a text."""

    def _most(self, _asked: _Asked) -> float:
        """The highest logit to expect of the encoder, for a text in Latin script."""
        return math.inf


def log_odds(probability: float) -> float:
    """`ln(p / (1 - p))`; minus infinity at 0, where every score matters."""
    return -math.inf if probability <= 0 else math.log(probability / max(1 - probability, 1e-9))


class TextClassifier(_Classifier):
    """Scores each text by itself, and of a long one its ends too.

    The odds are divided by the number of texts: a request of twenty segments must not have twenty
    chances to be stopped wrongly.
    """

    def _texts(self, content: Content) -> list[_Asked]:
        texts = judged_texts(content.segments, content.context)
        shared = math.log(max(len(texts), 1))
        matters_from = log_odds(content.matters_from) + shared
        return [
            _Asked(place, part, script(part), None, content.memo, shared, matters_from)
            for place, text in texts
            for part in (text, *ends(text))
        ]

    async def _read(self, asked: _Asked, content: Content) -> Logits:
        return await _once(content.memo, ("text", asked.text), self._offload, partial(_read_text, asked.text))


FIRST_READ = 36
"""Characters of a streamed answer from which on it is read again whenever it has doubled: a reading costs a hundred
times what the n-grams cost, and judges all that was said so far. From 36 the fourth falls before the 400th character."""


def has_doubled(before: int, length: int) -> bool:
    """Whether an answer has passed the next power of two times `FIRST_READ` since it had `before` characters."""
    return (length // FIRST_READ).bit_length() > (before // FIRST_READ).bit_length()


BEGINNING = 400
"""Characters of a stream of which less can be told than of the whole answer."""
BEGINNING_ODDS = 0.4
"""Added to the log-odds of such a beginning: without it 75 of 100 answers that are stopped whole are stopped within their first 400
characters, with it 82; of harmless ones, mostly look-alikes, 7.8 in place of 4.8 are stopped on the way."""


def still_to_come(length: int) -> float:
    """What is added to the log-odds of a stream of which so many characters are known."""
    return BEGINNING_ODDS if length <= BEGINNING else 0.0


def is_due(content: Content, length: int) -> bool:
    """Whether the encoder reads an answer of which `length` characters are known: whole, or doubled since."""
    return content.final or has_doubled(content.offset + content.fresh, length)


class AnswerClassifier(_Classifier):
    """Scores an answer together with its question; in a stream the encoder's last reading stands until the next."""

    def _texts(self, content: Content) -> list[_Asked]:
        return [self._asked(s, content) for s in content.segments if s.text.strip()]

    def _asked(self, s: Segment, content: Content) -> _Asked:
        lowered = 0.0 if content.final else -still_to_come(content.offset + len(s.text))
        matters_from = log_odds(content.matters_from) + lowered
        return _Asked(s.place, s.text, script(s.text), content.context, content.memo, lowered, matters_from)

    def _most(self, asked: _Asked) -> float:
        return _student().highest(asked.text, asked.question, asked.memo)

    async def _read(self, asked: _Asked, content: Content) -> Logits:
        memo, key = content.memo, ("read", asked.place)
        stands = memo.get(key)
        if isinstance(stands, np.ndarray) and not is_due(content, content.offset + len(asked.text)):
            return stands
        work = partial(_encoder().read_answer, content.context, asked.text)
        found = await _once(memo, ("answer", content.context, asked.text), self._offload, work)
        memo[key] = found
        return found


class RefusalClassifier:
    """Scores the beginning of an answer; n-grams are enough for it."""

    inline = True

    def __init__(self, name: str) -> None:
        self.name = name
        self._model = _model(name)
        self.version = self._model.version

    def warm_up(self) -> None:
        """As the others."""
        self._model.score("warm up")

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """One finding for each text."""
        texts = [(p, t[:REFUSAL_CHARS]) for p, t in judged_texts(content.segments, content.context)]
        shared = math.log(max(len(texts), 1))
        return tuple(
            Finding(self.name, self.name, logistic(self._model.logit(t, memo=content.memo) - shared), place)
            for place, t in texts
        )


def jailbreak(parameters: Mapping[str, object], resources: Resources) -> Detector:
    """Jailbreaks and prompt injections, in what goes in."""
    return TextClassifier("jailbreak", parameters, resources)


def harmful_request(parameters: Mapping[str, object], resources: Resources) -> Detector:
    """Requests for harm, in what goes in."""
    return TextClassifier("harmful_request", parameters, resources)


def harmful_answer(parameters: Mapping[str, object], resources: Resources) -> Detector:
    """Harmful answers, read beside their question."""
    return AnswerClassifier("harmful_answer", parameters, resources)


def refusal(_parameters: Mapping[str, object], _resources: Resources) -> Detector:
    """Answers in which the model declines."""
    return RefusalClassifier("refusal")
