"""Ways around the guards that were tried, over the real proxy: docs/adversarial-review.md lists them."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.fakes import MODEL, Proxy, raw
from tests.ingress.test_api import post

Start = Callable[..., Proxy]
HARDENED = "hardening: [{text: {en: Never speak of the northern harbour., ja: 規則}}, {use: leak_marker}]\nguards: []\n"


def test_an_error_of_the_model_server_does_not_quote_the_policys_texts(proxy: Start) -> None:
    """`tool_choice: required` without tools is enough to have vLLM refuse the body and repeat it."""
    running = proxy(HARDENED)

    async def refuse(up: object, out: object, body: dict[str, object]) -> None:
        told = f"1 validation error: {{'type': 'value_error', 'msg': 'tools needed', 'input': {body!r}}}"
        error = json.dumps({"error": {"message": told, "type": "BadRequestError", "code": 400}})
        await raw(400, error.encode())(up, out, body)  # type: ignore[arg-type]

    running.upstream.script = refuse
    refused = post(running, tool_choice="required")
    assert refused.status_code == 400
    assert "tools needed" in refused.text
    sent = running.upstream.bodies[-1]
    assert "northern harbour" in str(sent)
    assert "harbour" not in refused.text
    assert running.core._parts.leak_marker not in refused.text
    assert sent["model"] == MODEL
