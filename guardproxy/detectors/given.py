"""A guard's own parameters, read with errors that name the key, what was expected and what came."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256

from guardproxy.errors import PolicyError
from guardproxy.yamldoc import suggest


class Given:
    """The keys that a guard in a policy gives its detector.

    Args:
        parameters: As the policy has them.
        detector: Whose they are, for the version.
    """

    def __init__(self, parameters: Mapping[str, object], detector: str) -> None:
        self._parameters = parameters
        self._detector = detector

    def version(self, form: int, *more: str) -> str:
        """Hash of the parameters, of the detector's way of asking (`form`) and of what else decides."""
        spelled = json.dumps(dict(self._parameters), sort_keys=True, ensure_ascii=False, default=str)
        return sha256("\n".join((self._detector, str(form), *more, spelled)).encode()).hexdigest()[:12]

    def has(self, key: str) -> bool:
        """Whether the policy gives it."""
        return self._parameters.get(key) is not None

    def text(self, key: str, default: str | None = None) -> str:
        """A text that is not empty.

        Raises:
            PolicyError: It is none, or it is missing and there is no default; as for all the others.
        """
        value = self._parameters.get(key, default)
        if not isinstance(value, str) or not value.strip():
            raise PolicyError(f"{key}: expected a text, got {_shown(value)}")
        return value

    def choice(self, key: str, allowed: Iterable[str], default: str) -> str:
        """One of some words."""
        listed = tuple(allowed)
        value = self.text(key, default)
        if value not in listed:
            raise PolicyError(f"{key}: {value!r} is not one of them{suggest(value, listed)}")
        return value

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number in `[low, high]`."""
        value = self._parameters.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise PolicyError(f"{key}: expected a whole number in [{low}, {high}], got {_shown(value)}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """`true` or `false`."""
        value = self._parameters.get(key, default)
        if not isinstance(value, bool):
            raise PolicyError(f"{key}: expected true or false, got {_shown(value)}")
        return value

    def words(self, key: str, default: Iterable[str] = (), allowed: Iterable[str] = ()) -> tuple[str, ...]:
        """A list of texts; of some only, if `allowed` names any."""
        value = self._parameters.get(key, list(default))
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) and v for v in value):
            raise PolicyError(f"{key}: expected a list of texts, got {_shown(value)}")
        listed = tuple(allowed)
        for word in value:
            if listed and word not in listed:
                raise PolicyError(f"{key}: {word!r} is not one of them{suggest(word, listed)}")
        return tuple(value)

    def texts(self, key: str) -> dict[str, str]:
        """A mapping of names to texts; empty if it is not given."""
        value = self._parameters.get(key, {})
        if not isinstance(value, Mapping) or not all(
            isinstance(k, str) and k and isinstance(v, str) and v for k, v in value.items()
        ):
            raise PolicyError(f"{key}: expected names with a text each, got {_shown(value)}")
        return dict(value)


def _shown(value: object) -> str:
    return "nothing" if value is None else repr(value)[:60]
