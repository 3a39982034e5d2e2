"""Telephone numbers: Japan's, North America's, international ones, and others where words say so."""

from __future__ import annotations

from guardproxy.detectors.forms.context import PHONE, PRODUCT
from guardproxy.detectors.forms.digits import Number

_MOBILE = ("060", "070", "080", "090", "050")
"""Mobile and IP telephones: 11 digits (MIC, 電気通信番号計画, 令和元年総務省告示第6号, with 060 since 2024)."""
_JAPANESE_FORMS = {
    10: {(2, 4, 4), (3, 3, 4), (4, 2, 4), (5, 1, 4), (4, 3, 3), (10,), (2, 8), (3, 7), (4, 6)},
    11: {(3, 4, 4), (4, 3, 4), (11,), (3, 8)},
}
_NO_COUNTRY = ("28", "83", "89")
"""Starts of country codes that ITU-T E.164 leaves unassigned."""


def phone(number: Number) -> float:
    """How surely a number is a telephone's: a known plan counts more than a shape, and words more than both."""
    if not 7 <= len(number.digits) <= 17:
        return 0.0
    if "+" in number.lead:
        return _international(number)
    text, start = number.text, number.start
    planned = max(_japanese(number), _north_american(number))
    is_product = PRODUCT.before(text, start)
    score = max(planned, 0.0 if is_product else _other(number))
    if not score:
        return 0.0
    if PHONE.before(text, start):
        return min(0.98, score + 0.25)
    return score * 0.5 if is_product else score


def _international(number: Number) -> float:
    digits = number.digits
    if not 8 <= len(digits) <= 15 or digits[0] == "0" or digits.startswith(_NO_COUNTRY):
        return 0.0
    if digits.startswith("1") and len(digits) != 11:
        return 0.0
    if digits.startswith("81"):
        national = digits[2:] if digits[2:3] == "0" else "0" + digits[2:]
        return 0.95 if japanese_plan(national) else 0.0
    return 0.9 if number.is_run else 0.6


def japanese_plan(digits: str) -> bool:
    """Whether national digits fit Japan's plan: 0, no second 0 but in mobile codes, and their length."""
    if len(digits) == 11:
        return digits.startswith("0800") or (digits.startswith(_MOBILE) and digits[3] != "0")
    return len(digits) == 10 and digits[0] == "0" and digits[1] != "0" and not digits.startswith(_MOBILE)


def _japanese(number: Number) -> float:
    digits = number.digits
    if digits[0] != "0" or not japanese_plan(digits):
        return 0.0
    if number.lengths not in _JAPANESE_FORMS[len(digits)]:
        return 0.0
    if len(number.groups) == 1:
        if len(digits) == 11:
            return 0.7
        return 0.6 if digits.startswith(("0120", "0570")) else 0.4
    if len(number.groups) == 2 and ")" not in number.between[0]:
        return 0.6
    return 0.7 if number.is_spaced else 0.85


def _north_american(number: Number) -> float:
    """The North American plan: area and exchange start with 2 to 9 (NANPA); examples often break the second."""
    groups = number.groups
    if len(groups) == 4 and groups[0] in ("1", "001"):
        groups = groups[1:]
    if tuple(map(len, groups)) not in ((3, 3, 4), (10,)) or groups[0][0] in "01":
        return 0.0
    if len(groups) == 1:
        return 0.3 if groups[0][3] not in "01" else 0.25
    fits = groups[1][0] not in "01"
    if ")" in number.between[-2] or number.is_joined_by("-") or len(number.groups) == 4:
        return 0.75 if fits else 0.6
    if number.is_joined_by("."):
        return 0.65 if fits else 0.5
    return 0.5 if fits else 0.4


def _other(number: Number) -> float:
    """Any other grouping: little without words, and nothing where a date stands."""
    digits, lengths = number.digits, number.lengths
    if not number.is_run or not 7 <= len(digits) <= 13 or _is_date(number):
        return 0.0
    if lengths == (3, 2, 4):
        return 0.0  # the form of a social security number, good or bad
    if digits.startswith("00") and digits[2] != "0" and len(number.groups) > 2 and len(digits) > 9:
        return 0.6
    if "(" in number.lead and 8 <= len(digits) <= 11 and lengths[0] <= 4:
        return 0.5
    if digits[0] == "0" and len(number.groups) > 2 and 9 <= len(digits) <= 11:
        return 0.5
    if len(number.groups) > 1 and max(lengths) <= 8 and min(lengths) > 1:
        return 0.35
    return 0.3 if len(number.groups) == 1 and 9 <= len(digits) <= 11 else 0.0


def _is_date(number: Number) -> bool:
    lengths = number.lengths
    if lengths in ((4, 2, 2), (4, 1, 2), (4, 2, 1)):
        return number.groups[0][:2] in ("19", "20")
    return (
        len(lengths) == 3
        and lengths[2] == 4
        and max(lengths[:2]) <= 2
        and number.groups[2][:2] in ("19", "20")
    )
