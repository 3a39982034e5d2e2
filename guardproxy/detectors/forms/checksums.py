"""Check digits: evidence that digits are a number of some kind and not just digits."""

from __future__ import annotations

_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def luhn(digits: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    own = sum(map(int, digits[-1::-2]))
    doubled = sum(_DOUBLED[int(d)] for d in digits[-2::-2])
    return (own + doubled) % 10 == 0


def iban(compact: str) -> bool:
    """Whether an IBAN in capitals without spaces checks modulo 97 (ISO 13616-1, ISO/IEC 7064)."""
    turned = compact[4:] + compact[:4]
    return int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


def my_number(digits: str) -> bool:
    """Whether twelve digits end in the check digit of an individual number (個人番号).

    平成26年総務省令第85号第5条: with P the digits before it, counted from the lowest, and Q = n + 1 up to the
    sixth, n - 5 from the seventh on, it is 11 - (ΣPQ mod 11), and 0 where that remainder is 0 or 1.
    """
    lowest_first = digits[-2::-1]
    total = sum(int(p) * (n + 1 if n <= 6 else n - 5) for n, p in enumerate(lowest_first, 1))
    rest = total % 11
    return int(digits[-1]) == (0 if rest <= 1 else 11 - rest)


def drivers_licence(digits: str) -> bool:
    """Whether the eleventh of twelve digits checks the ten before it, as on Japan's driving licences.

    Modulus 11 with weights 5, 4, 3, 2, 7, 6, 5, 4, 3, 2, the last digit of 11 - remainder. The police publish no
    formula: this is the one that is commonly described, so it is evidence and no condition.
    """
    total = sum(int(d) * w for d, w in zip(digits[:10], (5, 4, 3, 2, 7, 6, 5, 4, 3, 2), strict=True))
    return int(digits[10]) == (11 - total % 11) % 10
