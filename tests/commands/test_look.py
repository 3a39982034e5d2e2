"""`guardproxy look` shows what the proxy sees in a picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from guardproxy.cli import main
from guardproxy.commands import looking
from guardproxy.images.reader import Reader
from tests.images.test_reader import command
from tests.noise import noise

POLICY = """schema: 1
name: mine
guards:
  - {name: words, stage: input, looks_at: [image_text], detector: patterns, patterns: [{id: a, text: line}]}
  - {name: blank, stage: input, detector: blank_image}
"""


@pytest.fixture
def policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "mine.yaml").write_text(POLICY)
    (folder / "routing.yaml").write_text("rules: [{match: {}, policy: mine}]\n")
    monkeypatch.setattr(
        looking, "Reader", lambda limits, tokens: Reader(limits, tokens=tokens, command=command())
    )
    return folder


def test_facts_text_findings_and_a_drawing(
    tmp_path: Path, policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, out = tmp_path / "a.png", tmp_path / "seen.png"
    Image.new("RGB", (80, 60), "white").save(picture)
    asked = ["look", str(picture), "--policy", "mine", "--policies", str(policies), "--out", str(out)]
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert "input: block" in told
    assert "picture 80 x 60, sent on as image/png" in told
    assert "sha256 of the file" in told
    assert "perceptual" in told
    assert "ocr[0]   0.90 (1, 2, 30, 9)  line" in told
    assert "a in messages[0].content[1]/ocr[0]" in told
    assert f"drawn: {out}" in told
    with Image.open(out) as drawn:
        assert drawn.size == (80, 60)
        assert drawn.getpixel((1, 5)) == (220, 20, 60)


def test_several_pictures_are_drawn_beside_each_other_and_texts_not_at_all(
    tmp_path: Path, policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png"):
        noise((40, 30), 50).save(tmp_path / name)
    out = tmp_path / "seen.png"
    what = [str(tmp_path / "a.png"), "only a text", str(tmp_path / "b.png")]
    assert main(["look", *what, "--policy", "mine", "--policies", str(policies), "--out", str(out)]) == 0
    assert sorted(p.name for p in tmp_path.glob("seen*")) == ["seen-1.png", "seen-3.png"]
    assert capsys.readouterr().out.count("drawn: ") == 2


def test_a_picture_that_is_not_there_is_not_taken_for_a_text(
    policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["look", "missing.png", "--policy", "mine", "--policies", str(policies)]) != 0
    assert "missing.png: no such picture" in capsys.readouterr().err
