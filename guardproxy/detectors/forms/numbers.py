"""Cards, US social security numbers, IPv4 addresses and Japan's numbers: each with its own evidence."""

from __future__ import annotations

import re

from guardproxy.detectors.forms import context
from guardproxy.detectors.forms.checksums import drivers_licence, luhn, my_number
from guardproxy.detectors.forms.digits import Number

CARD_SHAPES = (
    (4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4, 3), (4, 4, 5), (6, 10), (6, 13),
    *((n,) for n in range(12, 20)),
)  # fmt: skip
_ISSUERS: tuple[tuple[re.Pattern[str], frozenset[int]], ...] = tuple(
    (re.compile(prefix), frozenset(lengths))
    for prefix, lengths in (
        ("4", (13, 16, 19)),  # Visa
        ("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", (16,)),  # Mastercard
        ("3[47]", (15,)),  # American Express
        ("30[0-5]|309|36|3[89]", (14, 16, 19)),  # Diners Club
        ("6011|64[4-9]|65", (16, 19)),  # Discover
        ("352[89]|35[3-8]", (16, 17, 18, 19)),  # JCB
        ("2131|1800", (15,)),  # JCB, older
        ("62|81", (16, 17, 18, 19)),  # UnionPay
        ("50|5[6-8]|60|63|67", (12, 13, 14, 15, 16, 17, 18, 19)),  # Maestro and national schemes
        ("220[0-4]", (16, 17, 18, 19)),  # Mir
    )
)
"""Issuer prefixes and lengths, from ISO/IEC 7812 as the schemes publish their ranges."""

SSN_SHAPES = ((3, 2, 4), (9,))
_SSN_EXAMPLES = ("078051120", "219099999")
"""Printed in advertisements and never anybody's (US Social Security Administration)."""

IP_SHAPES = tuple((a, b, c, d) for a in (1, 2, 3) for b in (1, 2, 3) for c in (1, 2, 3) for d in (1, 2, 3))

TWELVE = ((12,), (4, 4, 4))
_LICENCE_PREFIX = re.compile("1[0-4]|2[0-5]|30|4[0-9]|5[0-5]|6[0-5]|7[0-4]|8[0-3]|9[0-7]|00")
"""Public safety commission that gave the first licence; 00 for some that came from abroad."""

POSTAL_SHAPES = ((3, 4), (7,))
_PLACE = re.compile(r" ?\n?[一-龥々ヶケ]{1,4}[都道府県市区郡町村]")
"""The beginning of a Japanese address, at once behind its postal code."""

ACCOUNT_SHAPES = (
    (7,), (3, 7), (4, 3, 7), (3, 1, 7), (3,), (5,), (5, 8), (5, 7), (5, 1, 8), (5, 1, 7), (6,), (8,), (9,), (10,), (11,), (12,),
)  # fmt: skip


def card(number: Number) -> float:
    """Luhn, issuer and length (ISO/IEC 7812-1), and words: each alone is little."""
    digits = number.digits
    uniform = len(set(number.between)) < 2 and all(
        gap in (" ", "-", " - ", "  ", ".") for gap in number.between
    )
    if not uniform or len(set(digits)) < 2:
        return 0.0
    named = context.CARD.before(number.text, number.start) and not _is_japanese_identity(number)
    checked = luhn(digits)
    issued = any(p.match(digits) and len(digits) in lengths for p, lengths in _ISSUERS)
    if not checked:
        return 0.35 if named and issued else 0.0
    if not issued:
        return 0.7 if named else 0.3
    if named:
        return 0.98
    if _is_other(number):
        return 0.3
    return 0.55 if len(digits) < 14 else 0.9


def ssn(number: Number) -> float:
    """A number that the Social Security Administration may give: areas 001 to 899 without 666, no part of zeros."""
    digits = number.digits
    if digits[:3] in ("000", "666") or digits[0] == "9" or digits[3:5] == "00" or digits[5:] == "0000":
        return 0.0
    if digits in _SSN_EXAMPLES:
        return 0.3
    named = context.SSN.before(number.text, number.start)
    if len(number.groups) == 1:
        return 0.8 if named else 0.0
    if number.is_joined_by("-"):
        return 0.95 if named else 0.7
    return 0.9 if named and number.is_joined_by(" ") else 0.3


def ipv4(number: Number) -> float:
    """Four numbers up to 255 (RFC 791). Versions and numbered sections look alike: words decide, then size."""
    groups = number.groups
    if not number.is_joined_by(".") or any(int(g) > 255 or (g[0] == "0" and g != "0") for g in groups):
        return 0.0
    first, last = int(groups[0]), int(groups[3])
    if first in (0, 127) or first >= 224:
        return 0.3  # this host, loopback, multicast, masks (RFC 6890): nobody's
    if context.VERSION.before(number.text, number.start) and not context.IP.before(number.text, number.start):
        return 0.2
    if context.IP.before(number.text, number.start):
        return 0.9
    return 0.4 if max(first, int(groups[1]), int(groups[2]), last) < 20 else 0.7


def individual_number(number: Number) -> float:
    """Japan's My Number: the check digit passes one random number of ten, so words or a grouping must join it."""
    digits = number.digits
    if not _is_twelve(number):
        return 0.0
    named = context.MY_NUMBER.before(number.text, number.start)
    if not my_number(digits):
        return 0.35 if named else 0.0
    if named:
        return 0.98
    if _is_other(number) or context.LICENCE.before(number.text, number.start):
        return 0.2
    return 0.55 if number.between and number.is_spaced else 0.45


def licence(number: Number) -> float:
    """Japan's driving licence: its commission's code, its check digit, and words."""
    digits = number.digits
    if not _is_twelve(number) or not _LICENCE_PREFIX.match(digits):
        return 0.0
    checked = drivers_licence(digits)
    if context.LICENCE.before(number.text, number.start):
        return 0.95 if checked else 0.6
    return 0.3 if checked and not _is_other(number) else 0.0


def postal_code(number: Number) -> float:
    """Japan's postal code: the mark 〒 or words before it, or an address behind it."""
    if number.between and not number.is_joined_by("-"):
        return 0.0
    text, start = number.text, number.start
    if context.POSTAL.before(text, start):
        return 0.95 if number.between else 0.85
    if not number.between or not number.is_run:
        return 0.0
    return 0.8 if _PLACE.match(text, number.end) else 0.25


def bank_account(number: Number) -> float:
    """Branch and account numbers, by the words before them: the digits themselves prove nothing."""
    text, start, lengths = number.text, number.start, number.lengths
    if any(gap.strip() not in ("", "-") for gap in number.between):
        return 0.0
    if lengths == (3,):
        return 0.6 if context.BRANCH.before(text, start) else 0.0
    if lengths[0] == 5:
        return 0.7 if context.YUCHO.before(text, start) and number.digits[0] == "1" else 0.0
    if lengths in ((7,), (3, 7), (3, 1, 7), (4, 3, 7)):
        return _japanese_account(text, start, len(lengths) > 1)
    if context.ACCOUNT.before(text, start):
        return 0.65
    return 0.65 if context.YUCHO.before(text, start) and lengths in ((6,), (8,)) else 0.0


def _japanese_account(text: str, start: int, branched: bool) -> float:
    if context.JAPANESE_ACCOUNT.before(text, start):
        return 0.9
    if context.ACCOUNT.before(text, start):
        return 0.85
    if context.BANK.before(text, start):
        return 0.75 if branched else 0.55
    return 0.0


def _is_japanese_identity(number: Number) -> bool:
    """Whether words before twelve digits name a number that stands on another card."""
    text, start = number.text, number.start
    return len(number.digits) == 12 and (
        context.MY_NUMBER.before(text, start) or context.LICENCE.before(text, start)
    )


def _is_twelve(number: Number) -> bool:
    return (
        len(set(number.between)) < 2
        and all(g in (" ", "-") for g in number.between)
        and len(set(number.digits)) > 2
    )


def _is_other(number: Number) -> bool:
    """Whether it more likely counts goods, orders or moments, or stands in an address of the web."""
    text, start = number.text, number.start
    if context.PRODUCT.before(text, start):
        return True
    word = text[max(0, start - context.NEAR) : start].rpartition(" ")[2]
    return "://" in word or (
        len(number.groups) == 1 and number.digits.startswith(("19", "20")) and _is_moment(number.digits)
    )


def _is_moment(digits: str) -> bool:
    return len(digits) in (12, 14) and "01" <= digits[4:6] <= "12" and "01" <= digits[6:8] <= "31"
