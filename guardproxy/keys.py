"""Client keys: who may use the proxy, under which name, with which rights and limits.

Keys are kept as SHA-256 digests. That is enough for a secret of 256 random bits, which no dictionary
holds (OWASP ASVS 5.0, 11.4: a slow hash is for passwords, which people choose). Keys that people chose
are refused when they are weak.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from guardproxy.errors import KeyFileError
from guardproxy.yamldoc import Document

PREFIX = "gp-"
MIN_CHARS = 24
"""Of a key that somebody chose: 24 random letters and digits hold over 120 bits."""
MIN_DISTINCT = 10
DEFAULTS = (
    "EMPTY", "empty", "unused", "none", "null", "test", "key", "api-key", "apikey", "your-api-key", "token",
    "token-abc123", "abc123", "secret", "password", "changeme", "change-me", "sk-1234", "sk-12345", "sk-test",
    "sk-no-key-required", "sk-xxx", "dummy", "fake", "local", "vllm", "ollama", "lm-studio", "not-needed",
)  # fmt: skip
"""Keys of examples and tutorials, vLLM's, LiteLLM's and Ollama's among them."""

Right = Literal["may_choose_policy"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Count = Annotated[int, Field(ge=1)]


class KeyLimits(BaseModel):
    """What one key may use; None is without limit.

    Attributes:
        requests_per_minute: A bucket of that many requests that fills evenly within a minute.
        concurrent: Exchanges under way.
        body_bytes_per_minute: A bucket, as above, of bytes of request bodies.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: Count | None = None
    concurrent: Count | None = None
    body_bytes_per_minute: Count | None = None

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return bool(self.requests_per_minute or self.concurrent or self.body_bytes_per_minute)


NO_LIMITS = KeyLimits()


class StoredKey(BaseModel):
    """A key as the keys file holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created: str
    rights: list[Right] = []
    limits: KeyLimits = NO_LIMITS
    revoked: str | None = None


class KeyFile(BaseModel):
    """The keys file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    keys: list[StoredKey] = []


@dataclass(frozen=True, slots=True)
class Client:
    """Who sent a request.

    Attributes:
        name: Of its key; `anonymous` where no keys are configured.
        cache_salt: Keeps its entries in the model server's prefix cache apart from others'; the same
            in every replica.
    """

    name: str
    rights: frozenset[str] = frozenset()
    limits: KeyLimits = NO_LIMITS
    cache_salt: str | None = None


ANONYMOUS = Client("anonymous")


def digest(key: str) -> str:
    """Hex SHA-256 of a key."""
    return sha256(key.encode()).hexdigest()


_DEFAULTS = frozenset(digest(word) for word in DEFAULTS)


def weakness(key: str) -> str | None:
    """Why a key that somebody chose is refused; None if it is not."""
    if digest(key) in _DEFAULTS:
        return "is a well-known default"
    if len(key) < MIN_CHARS:
        return f"is too short: expected at least {MIN_CHARS} characters, got {len(key)}"
    if len(set(key)) < MIN_DISTINCT:
        return f"is too simple: expected at least {MIN_DISTINCT} different characters, got {len(set(key))}"
    if not key.isascii() or not key.isprintable() or " " in key:
        return "cannot be sent in a header: expected printable ASCII without spaces"
    return None


class KeyRing:
    """The keys in force.

    Args:
        path: The keys file; None for none.
        given: Further keys from the settings: name, the key itself, rights, limits.

    Raises:
        KeyFileError: The file is not there or wrong, or a key is weak or given twice.
    """

    def __init__(
        self, path: Path | None, given: Iterable[tuple[str, str, Iterable[str], KeyLimits]] = ()
    ) -> None:
        self._path = path
        self._given: dict[str, Client] = {}
        for name, key, rights, limits in given:
            if (why := weakness(key)) is not None:
                raise KeyFileError(f"client_keys.{name}: the key {why}")
            self._given[digest(key)] = _client(name, digest(key), rights, limits)
        self._seen: tuple[int, int] | None = None
        self._clients: Mapping[str, Client] = self._given
        self.refresh()

    @property
    def required(self) -> bool:
        """Whether a client must show a key."""
        return self._path is not None or bool(self._given)

    @property
    def names(self) -> list[str]:
        """Names of the keys in force."""
        return sorted(c.name for c in self._clients.values())

    def refresh(self) -> bool:
        """Read the file anew if it changed; whether it did.

        Raises:
            KeyFileError: It cannot be read; the keys in force stay.
        """
        if self._path is None:
            return False
        stat = _stat(self._path)
        if stat == self._seen:
            return False
        self._seen = stat
        clients = dict(self._given)
        for index, stored in enumerate(read(self._path).keys):
            if stored.revoked is not None:
                continue
            if stored.sha256 in _DEFAULTS:
                raise KeyFileError(f"{self._path}: keys[{index}] ({stored.name}): is a well-known default")
            if stored.sha256 in clients or stored.name in {c.name for c in clients.values()}:
                raise KeyFileError(f"{self._path}: keys[{index}] ({stored.name}): is there twice")
            clients[stored.sha256] = _client(stored.name, stored.sha256, stored.rights, stored.limits)
        self._clients = clients
        return True

    def find(self, key: str) -> Client | None:
        """Whose key it is. Looked up by its digest, so timing tells nothing of other keys."""
        return self._clients.get(digest(key))


def _client(name: str, key_digest: str, rights: Iterable[str], limits: KeyLimits) -> Client:
    salt = sha256(f"guardproxy cache salt {key_digest}".encode()).hexdigest()[:32]
    return Client(name, frozenset(rights), limits, salt)


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise KeyFileError(
            f"{path}: cannot be read: {error.strerror}; make it with `guardproxy key new`"
        ) from None
    return stat.st_mtime_ns, stat.st_size


def read(path: Path) -> KeyFile:
    """The keys file.

    Raises:
        KeyFileError: It cannot be read, or something in it is wrong.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path}: cannot be read: {error}") from None
    return Document(text or "{}", path, KeyFileError).validate(KeyFile)


def add(path: Path, name: str, rights: Iterable[Right] = (), limits: KeyLimits | None = None) -> str:
    """Make a key, keep its digest, and return it: the only time that it can be seen.

    Raises:
        KeyFileError: The name is taken, or the file is wrong.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    with _Edit(path) as edit:
        if any(k.name == name and k.revoked is None for k in edit.keys):
            raise KeyFileError(f"{path}: a key named {name!r} is in force already; revoke it first")
        stored = StoredKey(
            name=name, sha256=digest(key), created=_now(), rights=list(rights), limits=limits or NO_LIMITS
        )
        edit.keys.append(stored)
    return key


def revoke(path: Path, name: str) -> None:
    """End a key; a proxy that runs knows within a second.

    Raises:
        KeyFileError: No key in force has that name.
    """
    with _Edit(path) as edit:
        places = [i for i, k in enumerate(edit.keys) if k.name == name and k.revoked is None]
        if not places:
            raise KeyFileError(f"{path}: no key in force is named {name!r}")
        edit.keys[places[0]] = edit.keys[places[0]].model_copy(update={"revoked": _now()})


class _Edit:
    """The keys of a file, written back at once when nothing went wrong; one editor at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.keys: list[StoredKey] = []

    def __enter__(self) -> _Edit:
        self._lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self.keys = list(read(self._path).keys) if self._path.exists() else []
        except KeyFileError:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                value = KeyFile(keys=self.keys).model_dump(by_alias=True, exclude_none=True)
                _write(self._path, msgspec.json.format(msgspec.json.encode(value), indent=2))
        finally:
            os.close(self._lock)


def _write(path: Path, text: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if path.exists():  # whoever may read it still may: the proxy perhaps runs as another user
            before = path.stat()
            os.fchmod(descriptor, before.st_mode & 0o777)
            if os.geteuid() == 0:
                os.fchown(descriptor, before.st_uid, before.st_gid)
        file.write(text + b"\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
