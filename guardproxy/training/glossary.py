"""Makes the glossaries of `detectors/glosses.py` out of the dictionaries EDICT and CC-CEDICT (both CC BY-SA)."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from guardproxy.detectors.glosses import CHINESE, JAPANESE, glosses
from guardproxy.errors import SettingsError

_EDICT = re.compile(r"(?P<word>[^\s\[/]+) (?:\[[^\]]*\] )?/(?P<rest>.*)/")
_CEDICT = re.compile(r"(?P<word>\S+) (?P<simplified>\S+) \[(?P<reading>[^\]]*)\] /(?P<rest>.*)/")
_KANJI = re.compile("[\u4e00-\u9fff\u3005]")
_KATAKANA = re.compile("[\u30a1-\u30fc]{3,}")
_COMMON = "(P)"
_UNUSUAL = ("(iK)", "(oK)", "(ok)", "(gikun)", "(obs)", "(arch)")
_REMARK = re.compile(r"\([^)]*\)|\{[^}]*\}")
_CHANGES = re.compile(r"\((?:[^)]*,)?(?:v1|v5|vk|adj-i)")
"""Parts of speech whose last kana changes: what stands before it is in all their forms."""
_ELSEWHERE = (
    "variant of",
    "old variant",
    "Japanese variant",
    "see ",
    "surname",
    "CL:",
    "used in",
    "abbr",
    "also written",
    "archaic",
)
"""How a sense begins that is none."""
_MOST_WORDS = 5
_SHORT = re.compile("[\u4e00-\u9fff]{1,2}")
"""A Chinese word that is kept. Longer ones double the glossary and bring nothing: AUROC .92 of translated harmful requests
against .92 with them."""
_SAYS_NOTHING = frozenset("的了吗呢吧着把被就都也很是在和与")
HEADER = """\
# {language} words with their first English meaning, for the encoder; see guardproxy/detectors/glosses.py.
# Made by `guardproxy train --glosses` from {name}
# ({url}), and used under its licence: Creative Commons Attribution-ShareAlike. This file is under the same.
# Changed: {changed}
"""
HEADERS = {
    JAPANESE: HEADER.format(
        language="Japanese",
        name="EDICT, the property of the Electronic Dictionary Research and Development Group",
        url="https://www.edrdg.org",
        changed="common words only, one gloss of each, verbs and adjectives by the part that stays; grammar words are ours.",
    ),
    CHINESE: HEADER.format(
        language="Chinese",
        name="CC-CEDICT, Copyright (C) 1997, 1998 Paul Andrew Denisowski, published by MDBG",
        url="https://cc-cedict.org",
        changed="words of at most two characters and no names, one gloss of each; some words are ours.",
    ),
}

GRAMMAR = {
    "方法": "how to", "仕方": "how to", "やり方": "how to", "どうやって": "how", "どうすれば": "how", "どうしたら": "how",
    "どのように": "how", "なぜ": "why", "とは": "what is", "教え": "tell me", "ください": "please", "下さい": "please",
    "ない": "not", "なし": "without", "せずに": "without", "ずに": "without", "しない": "not", "するな": "do not",
    "ため": "for", "から": "from", "まで": "until", "について": "about", "の": "of", "には": "to", "私": "I", "僕": "I", "俺": "I", "あなた": "you", "お前": "you", "誰か": "someone", "自分": "my own",
    "人": "people", "ばれ": "get caught", "バレ": "get caught", "ふり": "pretend", "なりきっ": "act as", "として": "as",
    "すべて": "all", "全て": "all", "これまで": "previous", "以前": "previous", "上記": "above", "無視": "ignore",
    "作り方": "how to make", "使い方": "how to use", "盗み方": "how to steal", "消し方": "how to erase", "方": "way",
    "しろ": "do", "せよ": "do",
}  # fmt: skip

TOPICS = {
    "プロンプト": "prompt", "アカウント": "account", "ハッキング": "hacking", "ハック": "hack", "マルウェア": "malware", "ウイルス": "virus",
    "ランサムウェア": "ransomware", "フィッシング": "phishing", "キーロガー": "keylogger", "クラック": "crack", "脱獄": "jailbreak",
    "フィルター": "filter", "ルール": "rules", "モード": "mode", "キャラ": "character", "ロールプレイ": "role play", "チャットボット": "chatbot",
    "盗撮": "secretly film", "盗聴": "wiretap", "火炎瓶": "Molotov cocktail", "手榴弾": "grenade", "爆薬": "explosives", "薬物": "drugs",
    "大麻": "cannabis", "麻薬": "drugs", "覚せい剤": "methamphetamine", "自傷": "self-harm", "拒食": "anorexia", "痴漢": "groping",
    "売春": "prostitution", "児童": "children", "虐待": "abuse", "差別": "racist", "ヘイト": "hate", "デマ": "fake news", "なりすま": "impersonate",
    "偽札": "counterfeit money", "偽サイト": "fake site", "脱税": "tax evasion", "密輸": "smuggle", "横領": "embezzle", "ゆす": "blackmail",
    "いじめ": "bully", "ストーカー": "stalker", "リベンジポルノ": "revenge porn", "ポルノ": "porn", "スキミング": "skimming", "闇サイト": "dark web",
    "ダークウェブ": "dark web", "乗っ取": "hijack", "侵入": "break into", "殺害": "murder", "毒殺": "poison", "サリン": "sarin",
}  # fmt: skip
"""Words of the trade that the dictionary does not have among the common ones, or gives another meaning first."""

CHINESE_TOPICS = {
    "提示词": "prompt", "系统提示": "system prompt", "越狱": "jailbreak", "角色扮演": "role play", "忽略": "ignore", "无视": "ignore",
    "指令": "instructions", "指示": "instructions", "以上": "above", "之前": "previous", "所有": "all", "输出": "output", "如何": "how to",
    "怎么": "how", "怎样": "how", "怎麼": "how", "炸弹": "bomb", "炸彈": "bomb", "毒品": "drugs", "黑客": "hacker", "木马": "trojan",
    "钓鱼": "phishing", "请": "please", "請": "please", "我": "I", "你": "you", "他": "he", "她": "she", "不": "not", "没有": "not have",
}  # fmt: skip
"""The same for Chinese."""


def run(dictionaries: Sequence[Path], out: Path) -> int:
    """Write a glossary for each dictionary into a folder; returns the exit code.

    Args:
        dictionaries: EDICT (in EUC-JP, as it is published, or UTF-8), CC-CEDICT, or both.
        out: Made when it is not there.

    Raises:
        SettingsError: One is neither.
    """
    out.mkdir(parents=True, exist_ok=True)
    for path in dictionaries:
        if not path.is_file():
            raise SettingsError(f"{path}: no such file; expected EDICT or CC-CEDICT")
        language, words = _words(path)
        own = GRAMMAR | TOPICS if language == JAPANESE else CHINESE_TOPICS
        lines = [f"{word}\t{gloss}\n" for word, gloss in sorted((words | own).items())]
        target = out / glosses(language).name
        target.write_text(HEADERS[language] + "".join(lines), encoding="utf-8")
        sys.stderr.write(f"{target.name}: {len(lines)} words\n")
    return 0


def _words(path: Path) -> tuple[str, dict[str, str]]:
    text = _text(path)
    for language, found in ((CHINESE, _chinese(text)), (JAPANESE, _japanese(text))):
        words = dict(reversed(list(found)))  # the first meaning counts
        if words:
            return language, words
    raise SettingsError(f"{path}: expected EDICT or CC-CEDICT, lines of WORD … /meaning/…/, got none")


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("euc_jp", "replace")


def _japanese(text: str) -> Iterator[tuple[str, str]]:
    """Common words with kanji or in katakana; of one that changes, also the part that stays."""
    for line in text.splitlines():
        entry = _EDICT.match(line)
        if entry is None or f"/{_COMMON}" not in line:
            continue
        word, senses = entry["word"], entry["rest"].split("/")
        has_kanji = _KANJI.search(word) is not None
        if any(mark in senses[0] for mark in _UNUSUAL) or not (has_kanji or _KATAKANA.fullmatch(word)):
            continue
        gloss = _gloss(senses)
        if not gloss:
            continue
        yield word, gloss
        if _CHANGES.match(senses[0]) and _KANJI.search(word[:-1]):
            yield word[:-1], gloss


def _chinese(text: str) -> Iterator[tuple[str, str]]:
    """Short words in both scripts, no names: their readings begin with a capital."""
    for line in text.splitlines():
        entry = _CEDICT.match(line)
        if entry is None or line.startswith("#") or entry["reading"][:1].isupper():
            continue
        gloss = _gloss([s for s in entry["rest"].split("/") if not s.startswith(_ELSEWHERE)])
        for word in (entry["simplified"], entry["word"]):
            if gloss and _SHORT.fullmatch(word) and word not in _SAYS_NOTHING:
                yield word, gloss


def _gloss(senses: Sequence[str]) -> str:
    plain = (_REMARK.sub("", s).split(";")[0].strip() for s in senses if not s.startswith("Ent"))
    first = next(filter(None, plain), "").removeprefix("to ")
    return " ".join(first.split()[:_MOST_WORDS])
