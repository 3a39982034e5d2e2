"""Check digits, against numbers that others published."""

from __future__ import annotations

import pytest

from guardproxy.detectors.forms.checksums import drivers_licence, iban, luhn, my_number


@pytest.mark.parametrize(
    "digits", ["4111111111111111", "378282246310005", "30569309025904", "6011111111111117"]
)
def test_test_numbers_of_the_card_schemes_are_good_and_no_neighbour_is(digits: str) -> None:
    assert luhn(digits)
    assert not any(luhn(digits[:-1] + d) for d in "0123456789" if d != digits[-1])


@pytest.mark.parametrize("number", ["GB82WEST12345698765432", "DE89370400440532013000", "NO9386011117947"])
def test_examples_of_the_iban_registry_are_good_and_no_neighbour_is(number: str) -> None:
    assert iban(number)
    assert not iban(number[:-1] + str((int(number[-1]) + 1) % 10))


@pytest.mark.parametrize("digits", ["123456789018", "023456789013"])
def test_an_individual_number_has_one_good_check_digit(digits: str) -> None:
    assert my_number(digits)
    assert [my_number(digits[:11] + d) for d in "0123456789"].count(True) == 1


def test_a_remainder_of_one_or_less_gives_zero() -> None:
    """総務省令第85号第5条, the proviso."""

    def total(digits: str) -> int:
        return sum(int(p) * (n + 1 if n <= 6 else n - 5) for n, p in enumerate(reversed(digits), 1))

    numbers = [f"{n:011d}" for n in range(10**10, 10**10 + 200)]
    assert all(my_number(n + "0") for n in numbers if total(n) % 11 <= 1)
    assert not any(my_number(n + "0") for n in numbers if total(n) % 11 > 1)


@pytest.mark.parametrize("digits", ["309012345620", "459803358720"])
def test_published_examples_of_licences_are_good(digits: str) -> None:
    assert drivers_licence(digits)
    assert not drivers_licence(digits[:10] + str((int(digits[10]) + 1) % 10) + digits[11])
