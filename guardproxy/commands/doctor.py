"""`guardproxy doctor`: what is exposed, of a live model server and of the policies in front of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from guardproxy.commands import doctor_policies, doctor_upstream
from guardproxy.commands.sign import Level, Sign
from guardproxy.core.canonical import SpecialTokens
from guardproxy.errors import PolicyError, SettingsError
from guardproxy.inforce import load_policies
from guardproxy.policystore import shipped_dir
from guardproxy.settings import Settings, read_secret

MARKS = {Level.OK: "ok     ", Level.NOTE: "note   ", Level.WARNING: "warning", Level.DANGER: "DANGER "}


def run(settings: Settings, *, as_json: bool, strict: bool) -> int:
    """Look at everything the settings name.

    Args:
        settings: With the upstream's URL and the policies' directory.
        as_json: One JSON object a line.
        strict: Whether a warning fails it, too.

    Returns:
        0; 1 if something gets past the guards (or, if strict, might).
    """
    signs = list(look(settings))
    for sign in signs:
        sys.stdout.write(_json(sign) if as_json else _line(sign))
    worst = max((s.level for s in signs), default=Level.OK)
    return int(worst >= (Level.WARNING if strict else Level.DANGER))


def look(settings: Settings) -> Iterator[Sign]:
    """All signs: of the servers, the policies, the settings."""
    upstream = settings.upstream
    servers = [(s.url, s.key or upstream.key, s.models) for s in upstream.servers] or [
        (upstream.url, upstream.key, upstream.models)
    ]
    models: list[str] = []
    tokens = SpecialTokens(upstream.special_tokens)
    for url, key, named in servers:
        if not url.startswith(("http://", "https://")):
            raise SettingsError(f"upstream: expected http://HOST:PORT or https://HOST:PORT, got {url!r}")
        server = doctor_upstream.Upstream(url, read_secret(key))
        signs = list(doctor_upstream.look(server, tokens))
        yield from signs
        models += named or doctor_upstream.models_of(server)
    try:
        revision = load_policies(Path(settings.policies) if settings.policies else shipped_dir())
    except PolicyError as error:
        yield Sign(Level.DANGER, "policies", str(error))
    else:
        yield from doctor_policies.look(revision, models)
    yield from doctor_policies.look_at_settings(settings)


def _line(sign: Sign) -> str:
    advice = f"\n         → {sign.advice}" if sign.advice and sign.level > Level.OK else ""
    return f"{MARKS[sign.level]}  {sign.what}: {sign.text}{advice}\n"


def _json(sign: Sign) -> str:
    fields = {"level": sign.level.name.lower(), "what": sign.what, "text": sign.text, "advice": sign.advice}
    return json.dumps(fields, ensure_ascii=False) + "\n"
