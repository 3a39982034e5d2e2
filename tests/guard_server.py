"""A scripted server of guard models on loopback: answers what it is told, remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass
class Reply:
    """What is answered; `hang_up` closes the connection without a byte, `is_torn` in the middle of the body."""

    body: object = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    slow_s: float = 0.0
    hang_up: bool = False
    is_torn: bool = False


@dataclass
class Seen:
    """What was asked."""

    path: str
    headers: dict[str, str]
    body: Body


class GuardServer:
    """Use as a context manager. `answer` is a reply, a list of them (the last one stays) or a function of what came."""

    def __init__(self, answer: Reply | Sequence[Reply] | Callable[[Seen], Reply]) -> None:
        self.answer = answer
        self.seen: list[Seen] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.handle(self)

            def do_POST(self) -> None:
                server.handle(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> GuardServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def handle(self, call: BaseHTTPRequestHandler) -> None:
        length = int(call.headers.get("content-length") or 0)
        data = call.rfile.read(length)
        seen = Seen(
            call.path, {k.lower(): v for k, v in call.headers.items()}, json.loads(data) if data else {}
        )
        with self._lock:
            self.seen.append(seen)
            number = len(self.seen) - 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            self._reply(call, self._answer(seen, number))
        except (BrokenPipeError, ConnectionResetError):
            call.close_connection = True
        finally:
            with self._lock:
                self._now -= 1

    def _answer(self, seen: Seen, number: int) -> Reply:
        answer = self.answer
        if callable(answer):
            return answer(seen)
        return answer if isinstance(answer, Reply) else answer[min(number, len(answer) - 1)]

    @staticmethod
    def _reply(call: BaseHTTPRequestHandler, reply: Reply) -> None:
        time.sleep(reply.slow_s)
        if reply.hang_up:
            call.close_connection = True
            return
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        call.send_response(reply.status)
        for name, value in {"content-type": "application/json", **reply.headers}.items():
            call.send_header(name, value)
        call.send_header("content-length", str(len(data) + reply.is_torn))
        call.close_connection = reply.is_torn
        call.end_headers()
        call.wfile.write(data)


Tops = Sequence[tuple[str, float]]


def chat(
    text: str | None, tokens: Sequence[tuple[str, Tops]] = (), finish: str = "stop", **message: Any
) -> Body:
    """A chat completion in vLLM's format; `tokens` are texts with what could have stood there."""
    listed = [
        {
            "token": token,
            "logprob": dict(tops).get(token, -9.0),
            "bytes": list(token.encode()),
            "top_logprobs": [{"token": t, "logprob": p, "bytes": list(t.encode())} for t, p in tops],
        }
        for token, tops in tokens
    ]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None, "reasoning": None, **message},
        "logprobs": {"content": listed} if listed else None,
        "finish_reason": finish,
        "stop_reason": None,
    }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "guard",
        "choices": [choice],
    }


def completion(text: str, tokens: Sequence[tuple[str, Tops]] = ()) -> Body:
    """A text completion in vLLM's format."""
    logprobs = {
        "tokens": [token for token, _ in tokens],
        "token_logprobs": [dict(tops).get(token, -9.0) for token, tops in tokens],
        "top_logprobs": [dict(tops) for _, tops in tokens],
        "text_offset": [0 for _ in tokens],
    }
    choice = {"index": 0, "text": text, "logprobs": logprobs if tokens else None, "finish_reason": "stop"}
    return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "guard", "choices": [choice]}
