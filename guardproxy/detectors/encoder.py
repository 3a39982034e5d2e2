"""The small encoder: MiniLM-L6 with four heads, in eight bits, run by ONNX Runtime; one text a run.

A batch mate or padding would change an eight-bit model's scores, so there are none. It reads Latin script. Its
vocabulary holds too few kanji: Japanese and Chinese it reads by the glosses of their words (`glosses.py`), and the
n-gram models judge the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from guardproxy.detectors.glosses import OTHER, legible, script
from guardproxy.detectors.wordpiece import Tokens, WordPiece

HEADS = ("jailbreak", "harmful_request", "harmful_answer", "refusal")
TEXT_TOKENS = 96
QUESTION_TOKENS = 48
ANSWER_TOKENS = 112
REFUSAL_TOKENS = 64
MAX_CHARS = 6000
"""Of a text that is cut into tokens."""
MAX_MIDDLE = 4
"""Pieces between head and tail of a long text that are read."""
PIECE = 360
"""Characters; about as many tokens as fit."""
PIECE_STEP = 280
_CLS, _SEP = 101, 102

Logits = npt.NDArray[np.float32]


def reads(text: str) -> bool:
    """Whether the encoder can read a text: in Latin script, or a language that it reads by its glosses."""
    return script(text) != OTHER


def text_input(pieces: Tokens, limit: int = TEXT_TOKENS) -> tuple[Tokens, int]:
    """A text alone: ids, and where the answer begins (0: nowhere)."""
    return [_CLS, *pieces[:limit], _SEP], 0


def pair_input(question: Tokens, answer: Tokens) -> tuple[Tokens, int]:
    """A question and its answer: ids, and where the answer begins."""
    asked = question[:QUESTION_TOKENS]
    return [_CLS, *asked, _SEP, *answer[:ANSWER_TOKENS], _SEP], len(asked) + 2


def middle_pieces(text: str) -> list[str]:
    """Overlapping pieces of a long text as it is read, in its order, head and tail left out."""
    text = legible(text)
    return [text[at : at + PIECE] for at in range(PIECE_STEP, max(len(text) - PIECE, 0), PIECE_STEP)]


class Encoder:
    """Gives logits, uncalibrated.

    Args:
        folder: Holds `encoder.onnx` and `encoder_vocabulary.txt`.
    """

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Two threads that wait busily cost four times the CPU of one that does not.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._path = folder / "encoder.onnx"
        self._session = onnxruntime.InferenceSession(
            str(self._path), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = WordPiece(folder / "encoder_vocabulary.txt")

    @cached_property
    def version(self) -> str:
        """Of the weights."""
        return sha256(self._path.read_bytes()).hexdigest()[:12]

    def _pieces(self, text: str) -> Tokens:
        return self._tokenizer.pieces(legible(text[:MAX_CHARS]))

    def _run(self, given: tuple[Tokens, int]) -> Logits:
        ids, answer_at = given
        kinds = np.zeros((1, len(ids)), np.int64)
        if answer_at:
            kinds[0, answer_at:] = 1
        found: Logits = self._session.run(None, {"ids": np.asarray([ids], np.int64), "kinds": kinds})[0][0]
        return found

    def read(self, text: str, middle: Sequence[str] = ()) -> Logits:
        """All heads' logits for a text by itself; of a long one the highest over head, tail and the pieces.

        Args:
            text: Any length.
            middle: Pieces of it that are looked at too, such as those that an n-gram model finds riskiest.
        """
        pieces = self._pieces(text)
        if len(text) > MAX_CHARS:
            tail = self._pieces(text[-MAX_CHARS:])[-TEXT_TOKENS:]
        else:
            tail = pieces[-TEXT_TOKENS:]
        parts = [pieces[:TEXT_TOKENS]]
        if len(pieces) > TEXT_TOKENS:
            parts += [tail, *(self._pieces(piece) for piece in middle)]
        highest: Logits = np.max([self._run(text_input(part)) for part in parts], axis=0)
        return highest

    def read_answer(self, question: str, answer: str) -> Logits:
        """All heads' logits for an answer beside its question; of a long one, of its head, middle and tail."""
        asked, pieces = self._pieces(question), self._pieces(answer)
        parts = [pieces]
        if len(pieces) > ANSWER_TOKENS:
            parts.append(pieces[-ANSWER_TOKENS:])
        if len(pieces) > 2 * ANSWER_TOKENS:
            parts.append(pieces[(len(pieces) - ANSWER_TOKENS) // 2 :])
        highest: Logits = np.max([self._run(pair_input(asked, part)) for part in parts], axis=0)
        return highest
