"""The dialects that the proxy speaks: one line each."""

from __future__ import annotations

from guardproxy.wire import chat, chat_upstream
from guardproxy.wire.chat_answer import ChatAnswer
from guardproxy.wire.dialect import Dialect
from guardproxy.wire.fault_body import fault

CHAT = Dialect("chat", "/v1/chat/completions", chat.parse, chat_upstream.write, ChatAnswer, fault)

DIALECTS = {d.name: d for d in (CHAT,)}
