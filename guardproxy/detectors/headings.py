"""How surely a heading asks for harm: "Steps to …" without a sentence around it, as it stands on a picture.

A small encoder (MiniLM-L6 in eight bits, fine-tuned on headings) and an n-gram model, whose logits are added up; the
encoder knows no Japanese, so that there the n-gram model judges alone. The document docs/quality/images.md says
what both miss.
"""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from guardproxy.detectors.glosses import LATIN, script
from guardproxy.detectors.ngram import NgramModel
from guardproxy.detectors.wordpiece import Tokens, WordPiece

WEIGHTS = Path(__file__).parent / "weights"
MAX_TOKENS = 62
NGRAM_WEIGHT = 1.0
ALONE_WEIGHT = 2.0
"""Of the n-gram model where the encoder is not asked: its logits are the smaller ones."""
BIAS = -0.6
ALONE_BIAS = -0.6
"""Set so that a score of 0.5 stops hardly any of the benign pictures of docs/quality/images.md."""
VOCABULARY = "encoder_vocabulary.txt"
_BEGIN, _END = 101, 102

_LEAD = re.compile(
    r"^(?:please |can you |could you |i want to know |tell me |explain |show me |teach me |give me |help me |i need "
    r"|what (?:is|are) (?:the |some )?(?:best |good |effective |most effective )?(?:ways?|methods?|strateg\w+|steps?|tactics|techniques) (?:to|for|of) "
    r"|how (?:can|could|do|would|should|might|to) ?(?:i|you|we|one|someone|somebody|a person)? ?"
    r"|(?:write|create|develop|provide|give|design|generate|make|produce|publish|draft|show|outline|list)(?: me)? (?:an? |the )?"
    r"(?:(?:detailed|comprehensive|step-by-step|practical|effective) )*"
    r"(?:tutorial|guide|manual|instructions?|plan|strategy|set of instructions|article|list|steps?|script|tips|recipe|method|ways?)"
    r"(?: (?:that|which) \w+)? (?:on |for |of |to |about |how to |explaining |describing )*(?:how to )?)",
    re.IGNORECASE,
)
_HEAD = re.compile(
    r"^(?:todo|steps?|methods?|ways?|how|guide|list|tips?|tutorial|instructions?|an? (?:short )?guide|checklist|my plan|write down|explain"
    r"|(?:three|two|five|\d+) ways|please tell me)[: ]*(?:of (?:ways )?)?(?:(?:on|for|to|how to|how) )*",
    re.IGNORECASE,
)
_GENERIC = re.compile(
    r"^(?:create|generate|write|develop|design|provide|outline|list|give|make|come up with|produce|describe|explain|draft|compose|suggest"
    r"|publish|name|find|tell|show|teach|instruct|plan)\b(?: me| us| someone)?(?: an?| the| some| \d+| two| three| five)?"
    r"(?: (?:script|program|guide|tutorial|plan|strategy|list|article|tweet|message|blog post|speech|story|set|example|ways?|methods?"
    r"|instructions?|post|series|step-by-step|detailed))*(?: (?:that|which|to|for|on|of|about|how|can|could|be|used|will|explaining|describing))* ",
    re.IGNORECASE,
)
_ITEMS = re.compile(r"(?:\b(?:step )?\d[.):]?\s*)+$", re.IGNORECASE)


def asked_for(text: str) -> str:
    """What a heading or request is about, without the words that stand in all of them."""
    left = _ITEMS.sub("", text.strip()).strip(" .:?!")
    for _ in range(3):
        shorter = _LEAD.sub("", left, count=1)
        if shorter == left:
            break
        left = shorter
    left = _HEAD.sub("", left, count=1)
    shorter = _GENERIC.sub("", left, count=1)
    left = shorter if len(shorter) > 8 else left
    return left or text


def ids(words: WordPiece, text: str) -> Tokens:
    """A text's beginning, with its marks."""
    return [_BEGIN, *words.pieces(text)[: MAX_TOKENS - 2], _END]


class Headings:
    """The two models.

    Args:
        folder: Holds `headings.onnx`, `headings.npz` and the vocabulary of the encoder of `detectors.encoder`.
    """

    def __init__(self, folder: Path = WEIGHTS) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        file = folder / "headings.onnx"
        self._session: Any = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        self._words = WordPiece(folder / VOCABULARY)
        self._ngrams = NgramModel.load(folder / "headings.npz")
        self.version = sha256(file.read_bytes() + self._ngrams.version.encode()).hexdigest()[:12]

    def logit(self, text: str) -> float:
        """Log-odds that a text of some dozen words asks for harm."""
        ngrams = self._ngrams.logit(asked_for(text))
        if script(text) != LATIN:
            return ALONE_WEIGHT * ngrams + ALONE_BIAS
        return self.encoded(text) + NGRAM_WEIGHT * ngrams + BIAS

    def quick(self, text: str) -> float:
        """Log-odds of the n-gram model alone."""
        return self._ngrams.logit(asked_for(text))

    def encoded(self, text: str) -> float:
        """The encoder's own log-odds."""
        given = np.asarray([ids(self._words, text)], np.int64)
        return float(self._session.run(None, {"ids": given})[0][0][0])


@cache
def headings() -> Headings:
    """Of this process."""
    return Headings()
