"""Which texts a classifier reads: pictures' lines are joined, and the ends of a long text are read by themselves too.

Each picture's lines become one text, and all of them with the user's own words another: a harmless sentence may
complete a harmful picture, and two pictures may share one request. A request that stands before or after a long document would be lost
in it, but is obeyed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from guardproxy.core.content import ImagePart, ReadText, Segment
from guardproxy.core.redact import Box

KIND = "image_text"
_CJK = re.compile("[\u3000-\u30ff\u3400-\u9fff\uff01-\uff9f]")
_LINE = re.compile(r"/ocr\[\d+\]$")
Placed = tuple[str, str]
"""Place and text."""
LONG = 300
"""Characters from which on a text's ends are read by themselves."""
LONG_LINE = 1000
"""The same for a text of one line: a paragraph is mostly one thought, and reading its ends costs as much as reading it."""
ENDS = 2
"""Lines at each end: with three, a harmless document in a hundred was stopped for one of them, in place of a thousand."""
_LEAST, _MOST = 12, 400
"""Characters of such a line: a shorter one is passed over, of a longer one its outer part is read."""
_LOOKED_AT = 4000


def lines_by_picture(segments: Sequence[Segment]) -> dict[str, list[Segment]]:
    """The segments of kind `image_text` by the place of their picture, both in reading order."""
    found: dict[str, list[Segment]] = {}
    for segment in segments:
        if segment.kind == KIND:
            found.setdefault(_LINE.sub("", segment.place), []).append(segment)
    return found


def text_of(lines: Sequence[Segment]) -> str:
    """A picture's lines as one text: line breaks of a layout are no ends of sentences."""
    return joined_lines([line.text for line in lines])


def joined_lines(lines: Sequence[str]) -> str:
    """Lines as one text; Japanese and Chinese have no space where a line breaks."""
    text = ""
    for line in lines:
        is_one_word = bool(text and line) and _CJK.match(text[-1]) and _CJK.match(line[0])
        text += line if is_one_word or not text else f" {line}"
    return text


def blocks(picture: ImagePart) -> list[str]:
    """Lines that stand together, as texts: a speech bubble, a button, a column.

    A line belongs to the block whose last line is above it, no further than a line's height, and overlaps it.
    """
    found: list[list[ReadText]] = []
    for read in picture.texts:
        for block in reversed(found):
            if _continues(block[-1].box, read.box):
                block.append(read)
                break
        else:
            found.append([read])
    return [joined_lines([read.text for read in block]) for block in found]


def _continues(above: Box, below: Box) -> bool:
    height = max(min(above[3] - above[1], below[3] - below[1]), 1)
    gap = below[1] - above[3]
    overlap = min(above[2], below[2]) - max(above[0], below[0])
    return -height <= gap <= height and overlap > 0.3 * min(above[2] - above[0], below[2] - below[0])


def judged_texts(segments: Sequence[Segment], words: str) -> list[Placed]:
    """What a classifier of texts reads: each text by itself, pictures' lines joined.

    Args:
        segments: What a guard looks at.
        words: The user's own, of the turn that is answered.
    """
    texts = [(s.place, s.text) for s in segments if s.kind not in (KIND, "image")]
    pictures = lines_by_picture(segments)
    each = [(f"{place}/ocr", text_of(lines)) for place, lines in pictures.items()]
    texts += each
    if each and (words.strip() or len(each) > 1):
        together = "\n".join([words, *(text for _, text in each)]).strip()
        texts.append((each[-1][0], together))
    return [(place, text) for place, text in texts if text.strip()]


def ends(text: str) -> list[str]:
    """The first and last lines of a long text, each by itself; nothing of a short one."""
    if len(text) <= LONG:
        return []
    first, last = _lines(text[:_LOOKED_AT]), _lines(text[-_LOOKED_AT:])
    if len(text) <= LONG_LINE and len(first) == 1:
        return []
    return list(
        dict.fromkeys([line[:_MOST] for line in first[:ENDS]] + [line[-_MOST:] for line in last[-ENDS:]])
    )


def _lines(text: str) -> list[str]:
    return [line for line in map(str.strip, text.splitlines()) if len(line) >= _LEAST]
