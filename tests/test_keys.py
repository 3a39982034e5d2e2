"""Client keys: kept as digests, refused when weak, revoked while the proxy runs."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from guardproxy import keys
from guardproxy.app import key_ring
from guardproxy.cli import main
from guardproxy.errors import KeyFileError, SettingsError
from guardproxy.keys import KeyLimits, KeyRing, weakness
from guardproxy.settings import Settings

STRONG = "k7-Wq2_xTz94LmNvB8rYp3Hs6"


def test_a_new_key_is_shown_once_and_kept_as_a_digest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys.json"
    assert main(["key", "new", "--keys", str(path), "--name", "app", "--requests-per-minute", "60"]) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("gp-")
    assert len(key) >= 46
    assert key not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    client = KeyRing(path).find(key)
    assert client is not None
    assert (client.name, client.limits.requests_per_minute) == ("app", 60)
    assert main(["key", "list", "--keys", str(path)]) == 0
    listed = capsys.readouterr().out
    assert "requests_per_minute=60" in listed
    assert key not in listed


def test_a_revoked_key_ends_while_the_ring_is_in_use_and_its_name_is_free(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key, other = keys.add(path, "app"), keys.add(path, "other")
    ring = KeyRing(path)
    assert main(["key", "revoke", "--keys", str(path), "--name", "app"]) == 0
    assert ring.refresh()
    assert ring.find(key) is None
    assert ring.find(other) is not None
    assert not ring.refresh()
    assert ring.find(keys.add(path, "app")) is None
    assert ring.refresh()
    assert ring.names == ["app", "other"]


def test_a_broken_file_leaves_the_keys_in_force(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = keys.add(path, "app")
    ring = KeyRing(path)
    path.write_text('{"schema": 1, "keys": [{"name": "app"}]}')
    with pytest.raises(KeyFileError, match=r"keys\[0\]"):
        ring.refresh()
    assert ring.find(key) is not None


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("EMPTY", "well-known default"),
        ("sk-1234", "well-known default"),
        ("short-but-random-x9Q", "too short"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "too simple"),
        ("鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵鍵abcdefghijklmnop", "header"),
        (STRONG, None),
    ],
)
def test_weak_keys_are_refused_by_name_and_never_shown(key: str, why: str | None) -> None:
    if why is None:
        assert weakness(key) is None
        return
    with pytest.raises(KeyFileError, match=why) as told:
        KeyRing(None, [("app", key, (), KeyLimits())])
    assert key not in str(told.value)


def test_a_default_key_is_known_by_its_digest_too(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    stored = {"name": "app", "sha256": keys.digest("changeme"), "created": "2026-01-01"}
    path.write_text(json.dumps({"schema": 1, "keys": [stored]}))
    with pytest.raises(KeyFileError, match="well-known default"):
        KeyRing(path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["new", "--name", "app"],
        ["new", "--name", "a b"],
        ["new", "--name", "x", "--right", "may_do_all"],
        ["new", "--name", "x", "--concurrent", "0"],
        ["revoke", "--name", "nobody"],
    ],
)
def test_what_the_command_cannot_do_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    path = tmp_path / "keys.json"
    keys.add(path, "app")
    before = path.read_text()
    assert main(["key", *arguments, "--keys", str(path)]) == 1
    assert capsys.readouterr().err.startswith("guardproxy: ")
    assert path.read_text() == before


def test_a_broken_file_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("{broken")
    with pytest.raises(KeyFileError):
        keys.add(path, "app")
    assert path.read_text() == "{broken"


def test_the_proxy_starts_only_with_keys_it_can_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_KEY", STRONG)
    absent = Settings(keys=str(tmp_path / "absent.json"))
    with pytest.raises(KeyFileError, match="guardproxy key new"):
        key_ring(absent)
    path = tmp_path / "keys.json"
    keys.add(path, "app")
    keys.revoke(path, "app")
    with pytest.raises(SettingsError, match="no key in force"):
        key_ring(Settings(keys=str(path)))
    both = {"client_keys": {"app": {"key": "env:APP_KEY"}}, "upstream": {"key": "env:APP_KEY"}}
    with pytest.raises(SettingsError, match="is a client key too"):
        key_ring(Settings.model_validate(both))
    ring = key_ring(Settings.model_validate({"client_keys": {"app": {"key": "env:APP_KEY"}}}))
    assert ring.names == ["app"]
    assert not key_ring(Settings()).required


def test_without_keys_only_loopback_is_bound(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--upstream", "http://127.0.0.1:1", "--host", "0.0.0.0"]) == 1
    assert "is not loopback and no client keys" in capsys.readouterr().err
