"""Japanese texts with personal data in them, made from templates and a seed; every check digit is a good one."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass

KNOWN: dict[str, tuple[str, ...]] = {
    "phone": (
        "お電話は{}までお願いします。",
        "TEL: {}",
        "携帯番号は{}です。",
        "連絡先（{}）に折り返しください。",
        "本社 {} 受付9:00-17:00",
    ),
    "email": ("メールは{}まで。", "E-mail：{}", "ご質問は{}へお送りください", "担当者<{}>に転送しました"),
    "card": ("カード番号は{}です。", "クレジットカード：{} 有効期限12/29", "{}で決済してください"),
    "my_number": ("マイナンバーは{}です。", "個人番号：{}", "通知カードに{}とあります"),
    "drivers_licence": ("運転免許証番号は{}です", "免許証の番号 第{}号", "免許証番号：{}"),
    "postal_code": ("〒{} 東京都千代田区", "郵便番号{}", "住所: {} 大阪府大阪市北区"),
    "bank_account": ("○○銀行△△支店 普通 {}", "口座番号：{}", "当座預金{}に振込"),
    "passport": ("パスポート番号は{}です", "旅券番号 {}"),
}
"""Seen while the rules were written."""

HELD_OUT: dict[str, tuple[str, ...]] = {
    "phone": (
        "何かあれば{}に電話してね", "緊急時は{}へ。", "山田太郎 様\n自宅 {}\n勤務先 なし", "FAX送信先→{}", "予約の変更は{}（平日のみ）で承ります。",
        "彼の番号、{}だったと思う", "【問い合わせ】{}", "ショートメッセージを{}宛に送りました。", "お客様センター{}", "| 氏名 | 電話 |\n|---|---|\n| 佐藤 | {} |",
    ),
    "email": (
        "{}にCCを入れておいて", "アカウントは{}で登録済み", "宛先「{}」でエラー", "連絡先＝{}（佐藤）", "ログインID：{}　パスワードは別送", "| 鈴木 | {} | 営業部 |",
    ),
    "card": (
        "VISAの{}、名義はTARO YAMADA", "お支払い方法\n{}\n一括払い", "決済用に{}を使って", "番号が{}のカードを紛失しました", "{} / 05-28 / CVC は別途",
    ),
    "my_number": (
        "年末調整のため、扶養家族の個人番号（{}）を記入", "マイナンバーカードの12桁 {} を控えた", "私の番号 {} で確定申告できますか？マイナンバーです。", "個人番号\n{}", "マイナンバー={}",
    ),
    "drivers_licence": (
        "本人確認：運転免許証（{}）", "免許の番号、{}で合ってますか", "レンタカー予約 免許証No.{} 有効期限 2028年", "運転免許 {} 取得済み", "提示書類は免許証で、番号は{}でした。",
    ),
    "postal_code": (
        "送り先：{} 神奈川県横浜市西区みなとみらい", "（〒{}）京都市中京区", "〒　{}\n北海道札幌市中央区", "郵便番号は{}で、マンション名は省略", "{} 福岡市博多区に引っ越しました", "勤務地 {}名古屋市中村区",
    ),
    "bank_account": (
        "振込先は三菱UFJ銀行 新宿支店 (普) {} ヤマダタロウ", "給与の受取口座を{}に変更", "普通預金口座 {}", "口座：普通{}", "みずほ銀行 渋谷支店（店番210）口座番号は{}、名義はサトウ", "楽天銀行 第一営業支店 当座 No.{}",
    ),
    "passport": (
        "旅券（{}）のコピーを添付します", "渡航者のパスポートNo. {}", "パスポートの番号が{}で、来年切れます",
    ),
}  # fmt: skip
"""Written after the rules and never used to change them."""

INNOCENT = (
    "注文番号{order}の商品は{date}に発送しました。", "お問い合わせ番号は{tracking}です。", "価格は{price}円（税込）、在庫は{count}個です。",
    "バージョン{version}をインストールしてください。", "{date} {time}に会議室{room}で打ち合わせ。", "JANコード {jan} の在庫を確認",
    "人口は{population}人、面積は{area}平方キロメートル。", "円周率は3.14159265358979です。", "型番 {model} は販売終了", "第{count}条第2項に基づき、{price}円を請求する。",
    "ISBN {isbn} の第3版", "電話でのお問い合わせは受け付けておりません。", "口座の開設には{count}日ほどかかります。", "座標は{lat}, {lon}です。", "気温は{room}度、降水確率は{count}%。",
    "ID: {order} のチケットをクローズ", "学籍番号 {student}", "売上は{price}千円（前年比{count}.5%）", "コミット {sha} で修正", "部屋番号は{room}、定員{count}名",
)  # fmt: skip
"""Numbers that are nobody's, in the same kinds of sentences."""


@dataclass(frozen=True, slots=True)
class Row:
    """A text with one piece of personal data in it."""

    entity: str
    template: str
    text: str
    start: int
    end: int


class Values:
    """Makes values of each entity, in the spellings that people use."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def digits(self, size: int) -> str:
        return "".join(self.random.choices(string.digits, k=size))

    def spelled(self, text: str) -> str:
        """As it is, in full width, or with other hyphens."""
        way = self.random.random()
        if way < 0.2:
            return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)
        if way < 0.3 and "@" not in text:
            return text.replace("-", self.random.choice("ー−‐–"))
        return text

    def phone(self) -> str:
        pick, d = self.random.choice, self.digits
        first = pick("123456789")
        return self.spelled(
            pick((
                f"{pick(('090', '080', '070'))}-{first}{d(3)}-{d(4)}", f"{pick(('090', '080', '070'))}{first}{d(7)}", f"03-{first}{d(3)}-{d(4)}",
                f"06({first}{d(3)}){d(4)}", f"(0{pick('4578')}{pick('123456789')}){first}{d(2)}-{d(4)}", f"0{pick('12')}{pick('123456789')}-{first}{d(2)}-{d(4)}",
                f"0{pick('2345789')}{d(2)}-{first}{d(1)}-{d(4)}", f"0120-{d(3)}-{d(3)}", f"0800-{d(3)}-{d(4)}", f"050-{first}{d(3)}-{d(4)}",
                f"+81-{pick(('90', '80', '70'))}-{first}{d(3)}-{d(4)}", f"+81 3 {first}{d(3)} {d(4)}", f"090 {first}{d(3)} {d(4)}",
            ))
        )  # fmt: skip

    def email(self) -> str:
        name = self.random.choice(
            ("taro.yamada", "h_suzuki", "info", "sato-k", "m.tanaka+news", "k" + self.digits(4))
        )
        host = self.random.choice(
            ("example.co.jp", "example.com", "mail.example.ne.jp", "example.ac.jp", "sub.example.org")
        )
        return self.spelled(f"{name}@{host}")

    def card(self) -> str:
        prefix, size = self.random.choice(
            (
                ("4", 16),
                ("51", 16),
                ("5500", 16),
                ("37", 15),
                ("3530", 16),
                ("3588", 16),
                ("36", 14),
                ("2221", 16),
            )
        )
        body = prefix + self.digits(size - len(prefix) - 1)
        number = body + _luhn_digit(body)
        if size == 16:
            glue = self.random.choice((" ", "-", ""))
            return self.spelled(glue.join(number[i : i + 4] for i in range(0, 16, 4)))
        glue = self.random.choice((" ", "-", ""))
        return self.spelled(glue.join((number[:4], number[4:10], number[10:])))

    def my_number(self) -> str:
        body = self.digits(11)
        number = body + _my_number_digit(body)
        glue = self.random.choice(("", " ", "-"))
        return self.spelled(glue.join((number[:4], number[4:8], number[8:])))

    def drivers_licence(self) -> str:
        prefix = self.random.choice(("10", "30", "44", "45", "62", "54", "90", "97"))
        body = prefix + self.digits(8)
        total = sum(int(d) * w for d, w in zip(body, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2), strict=True))
        return self.spelled(f"{body}{(11 - total % 11) % 10}{self.random.choice('0001')}")

    def postal_code(self) -> str:
        return self.spelled(f"{self.digits(3)}-{self.digits(4)}")

    def bank_account(self) -> str:
        return self.spelled(self.digits(7))

    def passport(self) -> str:
        return self.spelled(
            "".join(self.random.choices("MNTZ", k=1)) + self.random.choice("KRSZ") + self.digits(7)
        )

    def innocent(self) -> dict[str, str]:
        d, pick = self.digits, self.random.choice
        return {
            "order": d(pick((8, 10, 12))), "date": f"2024年{pick('123456789')}月1{d(1)}日", "tracking": f"{d(4)}-{d(4)}-{d(4)}", "price": f"{pick('123')},{d(3)}",
            "count": pick("23456789") + d(1), "version": f"{pick('123')}.{d(1)}.{d(1)}.{d(2).lstrip('0') or '0'}", "time": f"1{d(1)}:30", "room": pick("123") + d(2),
            "jan": f"49{d(11)}", "population": f"{pick('123')}{d(6)}", "area": f"{d(3)}.{d(2)}", "model": f"AB-{d(4)}-{d(2)}", "isbn": f"978-4-{d(2)}-{d(6)}-{d(1)}",
            "lat": f"35.{d(6)}", "lon": f"139.{d(6)}", "student": f"2{d(7)}", "sha": "".join(self.random.choices("0123456789abcdef", k=40)),
        }  # fmt: skip


def rows(templates: dict[str, tuple[str, ...]], each: int, seed: int) -> list[Row]:
    """For every template so many rows with values of its entity."""
    values = Values(seed)
    made: list[Row] = []
    for entity, listed in templates.items():
        make: Callable[[], str] = getattr(values, entity)
        for template in listed:
            for _ in range(each):
                before, _, after = template.partition("{}")
                value = make()
                made.append(
                    Row(entity, template, before + value + after, len(before), len(before) + len(value))
                )
    return made


def innocent_rows(each: int, seed: int) -> list[str]:
    """For every innocent template so many texts."""
    values = Values(seed)
    return [template.format(**values.innocent()) for template in INNOCENT for _ in range(each)]


def _luhn_digit(body: str) -> str:
    doubled = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
    total = sum(doubled[int(d)] if i % 2 == 0 else int(d) for i, d in enumerate(reversed(body)))
    return str(-total % 10)


def _my_number_digit(body: str) -> str:
    rest = sum(int(d) * w for d, w in zip(body, (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2), strict=True)) % 11
    return str(0 if rest <= 1 else 11 - rest)
