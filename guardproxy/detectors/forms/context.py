"""Words before a number that say what it is."""

from __future__ import annotations

import re2

from guardproxy.detectors.forms.form import BEHIND
from guardproxy.detectors.forms.plain import plain

NEAR = 48
"""Characters before a number in which a word still speaks of it: a short sentence, or a line of a form."""


class Context:
    """Looks for words shortly before a place.

    Args:
        words: English ones as RE2 expressions, matched from a word's start on, without case.
        signs: Words of languages without spaces, matched anywhere.
        near: Characters before the place.
    """

    def __init__(self, words: str, signs: str, near: int = NEAR) -> None:
        assert near <= BEHIND
        options = re2.Options()
        options.case_sensitive = False
        parts = [rf"\b(?:{words})"] if words else []
        parts += [plain(signs).text] if signs else []
        self._pattern = re2.compile("|".join(parts), options)
        self._near = near

    def before(self, text: str, at: int) -> bool:
        """Whether one of the words stands before `at`."""
        return self._pattern.search(text[max(0, at - self._near) : at]) is not None


PHONE = Context(
    "phones?|tel|telephone|mobile|cell|cellphone|call(?:ed|ing|s)?|dial|fax|contact|reach|text me|sms|whatsapp|hotline|ring",
    "電話|携帯|でんわ|TEL|連絡先|ファックス|FAX|ダイヤル|内線|問い?合わせ|問合せ|ケータイ|スマホ",
)
CARD = Context(
    "cards?|credit|debit|visa|mastercard|amex|american express|jcb|diners|discover|maestro|pan|cc",
    "カード|クレカ|クレジット|デビット",
)
MY_NUMBER = Context("my ?number|individual number", "マイナンバー|個人番号|通知カード")
LICENCE = Context("driv(?:er'?s?|ing) licen[cs]e", "免許|運転経歴証明書")
PASSPORT = Context("passports?", "旅券|パスポート")
SSN = Context("ssn|social security|socials?|taxpayer", "社会保障番号")
IP = Context(
    "ips?|ipv[46]|address(?:es)?|host|server|ping|subnet|gateway|dns", "IP|アドレス|サーバー?|接続元|ホスト"
)
VERSION = Context(
    r"v|ver\.?|versions?|releases?|builds?|section|chapter|firmware|oid|patch|upgrad\w*",
    "バージョン|版数|リリース|更新|第",
    24,
)
BANK = Context(
    r"bank|account (?:number|no|#)|a/c|acct",
    "口座|預金|銀行|信用金庫|信金|振込|振り込み|店番|ゆうちょ|記号",
    32,
)
ACCOUNT = Context(r"account (?:number|no|#)|acct|bank account", "口座", 24)
JAPANESE_ACCOUNT = Context(
    "", r"(?:普通|当座|貯蓄)(?:預金)?(?:口座)?(?:番号)?[\s:();、,.No#]{0,4}\z|\([普当貯]\)\s?\z", 16
)
BRANCH = Context(
    "branch (?:code|number|no)", r"(?:店番号?|支店番号|支店コード|店舗コード|店コード)[\s:();は]{0,4}\z", 16
)
YUCHO = Context("", "ゆうちょ|郵便貯金|記号", 40)
POSTAL = Context("post(?:al)? ?codes?|zip ?codes?", r"〒\s?\z|郵便番号|〒番号", 16)
POSTAL_MARK = Context("", r"〒\s?\z", 3)
PRODUCT = Context(
    "order|isbn|ean|jan|upc|sku|tracking|invoice|item|serial|model|part|ticket|id",
    "注文|伝票|追跡|商品|製品|品番|型番|JAN|ISBN|管理番号|問い?合わせ番号|受付|整理番号|法人番号|登録番号",
    24,
)
