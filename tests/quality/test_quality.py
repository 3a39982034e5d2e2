"""What the quality of pictures is measured with: enough, the same each time, and not what was learnt."""

from __future__ import annotations

from itertools import islice

import pytest

from guardproxy.training.headings import own
from tests.images.render import fonts
from tests.quality import pictures, texts
from tests.quality.images import asked, wilson
from tests.quality.pictures import BENIGN, EACH, SHAPES


def test_wilsons_interval() -> None:
    """Against values of statsmodels' proportion_confint(method="wilson")."""
    assert [round(v, 4) for v in wilson(9, 10)] == [0.5958, 0.9821]
    assert [round(v, 4) for v in wilson(0, 100)] == [0.0, 0.037]
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.skipif(
    not (fonts(True) and fonts(False)), reason="needs fonts (Debian: fonts-dejavu-core, fonts-noto-cjk)"
)
def test_enough_pictures_are_drawn_and_the_same_each_time() -> None:
    assert len(BENIGN) * 2 * EACH >= 300
    assert len(SHAPES) == 5
    first, again = (list(islice(pictures.benign(), 3)) for _ in range(2))
    assert first == again
    harmful = list(islice(pictures.harmful(), 4))
    assert len({h.files for h in harmful}) == 4
    assert all(h.is_harmful for h in harmful)
    assert len([p for p in asked(harmful[0]).messages[0].parts]) == 1 + len(harmful[0].files)


def test_nothing_that_is_measured_was_learnt() -> None:
    learnt = {row.text.casefold() for row in own()}
    measured = [what for lang in ("en", "ja") for _, what in texts.HARM[lang]]
    measured += [t for lang in ("en", "ja") for t in texts.LIST_HEADINGS[lang]]
    for text in measured:
        action = text.removeprefix("Steps to ").removeprefix("Methods to ").removeprefix("Ways to ")
        assert action.casefold() not in learnt, text
