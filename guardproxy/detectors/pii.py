"""Personal data by its form, in English and Japanese texts: addresses, telephones, cards, official numbers.

What has no form of its own, such as names and street addresses, it does not see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from guardproxy.detectors.base import Detector, Resources
from guardproxy.detectors.forms import numbers
from guardproxy.detectors.forms.addresses import Email, Iban, Ipv6, Passport
from guardproxy.detectors.forms.digits import Numbers, Rule
from guardproxy.detectors.forms.form import Form, FormDetector
from guardproxy.detectors.forms.phones import phone
from guardproxy.errors import PolicyError
from guardproxy.yamldoc import suggest

VERSION = "1"
"""Of the rules: it goes into a policy's version, so a change of them must change it."""

_NUMBERS: Mapping[str, tuple[Sequence[tuple[int, ...]] | None, Rule]] = {
    "phone": (None, phone),
    "card": (numbers.CARD_SHAPES, numbers.card),
    "ssn": (numbers.SSN_SHAPES, numbers.ssn),
    "ip": (numbers.IP_SHAPES, numbers.ipv4),
    "my_number": (numbers.TWELVE, numbers.individual_number),
    "drivers_licence": (numbers.TWELVE, numbers.licence),
    "postal_code": (numbers.POSTAL_SHAPES, numbers.postal_code),
    "bank_account": (numbers.ACCOUNT_SHAPES, numbers.bank_account),
}
_WORDS: Mapping[str, type[Email] | type[Iban] | type[Ipv6] | type[Passport]] = {
    "email": Email,
    "iban": Iban,
    "ip": Ipv6,
    "passport": Passport,
}
ENTITIES = tuple(sorted(_NUMBERS.keys() | _WORDS.keys()))
"""Everything that is found; a guard's `entities` may name some of them."""


def build(parameters: Mapping[str, object], _resources: Resources) -> Detector:
    """The detector for a guard's `entities`; all if it names none."""
    return detector(chosen(parameters, ENTITIES))


def detector(entities: Sequence[str]) -> FormDetector:
    """A detector of some entities."""
    rules = [(name, *_NUMBERS[name]) for name in entities if name in _NUMBERS]
    forms: list[Form] = [Numbers(rules)] if rules else []
    forms += [_WORDS[name]() for name in entities if name in _WORDS]
    return FormDetector("pii", forms, entities, VERSION)


def chosen(parameters: Mapping[str, object], known: Sequence[str]) -> tuple[str, ...]:
    """A guard's `entities`, all of `known` if it has none.

    Raises:
        PolicyError: It is no list of known names.
    """
    listed = parameters.get("entities")
    if listed is None:
        return tuple(known)
    if not isinstance(listed, (list, tuple)) or not listed:
        raise PolicyError(f"entities: expected a list of names, got {listed!r}")
    for name in listed:
        if name not in known:
            raise PolicyError(f"entities: unknown entity {name!r}{suggest(str(name), known)}")
    return tuple(dict.fromkeys(listed))
