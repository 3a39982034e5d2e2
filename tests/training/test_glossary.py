"""The glossaries are made from EDICT and CC-CEDICT: which entries, which meaning, and what is said of another file."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardproxy.cli import main
from guardproxy.detectors.glosses import GLOSSED, Glossary, glosses
from guardproxy.training import glossary

EDICT = """\
　？？？ /EDICT, EDICT_SUB(P), EDICT2 Japanese-English Electronic Dictionary Files/2011/
盗む [ぬすむ] /(v5m,vt) to steal/(P)/
車 [くるま] /(n) (1) car/automobile/(2) wheel/(P)/
乗っ取る [のっとる] /(iK) (v5r,vi) to conform to/(P)/
電脳 [でんのう] /(n) computer/
コーヒー /(n) coffee (esp. hot)/(P)/EntL1049180X/
わざと /(adv) on purpose/(P)/
覚醒剤 [かくせいざい] /(n) stimulant (e.g. psychoactive drugs like methamphetamine)/(P)/
"""


@pytest.mark.parametrize("encoding", ["utf-8", "euc_jp"])
def test_common_words_get_their_first_meaning(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "edict").write_bytes(EDICT.encode(encoding))
    assert main(["train", str(tmp_path / "edict"), "--glosses", "--out", str(tmp_path / "new")]) == 0
    made = Glossary.load(tmp_path / "new/glosses_ja.txt")
    assert made.english("盗んで 盗む 車 コーヒー 覚醒剤") == "steal steal car coffee stimulant"
    assert made.english("電脳わざと乗っ取る") == "hijack"  # neither common nor usual; the last is ours


CEDICT = """\
# CC-CEDICT
偷 偷 [tou1] /to steal/to pilfer/
炸彈 炸弹 [zha4 dan4] /bomb; explosive/CL:枚[mei2]/
的 的 [de5] /of/
北京 北京 [Bei3 jing1] /Beijing/
鳥 鸟 [niao3] /variant of 屌[diao3]/bird/
計算機 计算机 [ji4 suan4 ji1] /computer/
"""


def test_short_chinese_words_get_their_first_meaning_in_both_scripts(tmp_path: Path) -> None:
    (tmp_path / "cedict").write_text(CEDICT, encoding="utf-8")
    assert main(["train", str(tmp_path / "cedict"), "--glosses", "--out", str(tmp_path / "new")]) == 0
    made = Glossary.load(tmp_path / "new/glosses_zh.txt")
    assert made.english("偷炸弹 炸彈 鸟") == "steal bomb bomb bird"
    assert made.english("的北京计算机") == ""


def test_what_is_no_dictionary_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other").write_text("hello\n")
    for name in ("other", "none"):
        assert main(["train", str(tmp_path / name), "--glosses", "--out", str(tmp_path / "new")]) == 1
        assert "expected EDICT or CC-CEDICT" in capsys.readouterr().err


@pytest.mark.parametrize("language", GLOSSED)
def test_the_shipped_glossary_says_whose_it_is(language: str) -> None:
    head = glosses(language).read_text("utf-8")[:800]
    assert head.startswith(glossary.HEADERS[language])
    assert "Attribution-ShareAlike" in head
    assert glosses(language).name in (glosses(language).parent / "NOTICE.md").read_text("utf-8")
