"""Lines read in pictures are joined before they are judged: a line alone says little, and an attack is often split.

Each picture's lines become one text, and all of them with the user's own words another: a harmless sentence may
complete a harmful picture, and two pictures may share one request.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from guardproxy.core.content import Segment

KIND = "image_text"
_LINE = re.compile(r"/ocr\[\d+\]$")
Placed = tuple[str, str]
"""Place and text."""


def lines_by_picture(segments: Sequence[Segment]) -> dict[str, list[Segment]]:
    """The segments of kind `image_text` by the place of their picture, both in reading order."""
    found: dict[str, list[Segment]] = {}
    for segment in segments:
        if segment.kind == KIND:
            found.setdefault(_LINE.sub("", segment.place), []).append(segment)
    return found


def text_of(lines: Sequence[Segment]) -> str:
    """A picture's lines as one text: line breaks of a layout are no ends of sentences."""
    return " ".join(line.text for line in lines)


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
