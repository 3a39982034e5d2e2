"""The dialects that the proxy speaks: one line each."""

from __future__ import annotations

from guardproxy.wire import chat, chat_upstream, completions, messages, messages_answer, responses
from guardproxy.wire.chat_answer import ChatAnswer
from guardproxy.wire.completions_answer import CompletionAnswer
from guardproxy.wire.dialect import Dialect
from guardproxy.wire.fault_body import fault
from guardproxy.wire.messages_answer import MessagesAnswer
from guardproxy.wire.responses_answer import ResponsesAnswer

CHAT = Dialect("chat", "/v1/chat/completions", chat.parse, chat_upstream.write, ChatAnswer, fault)
RESPONSES = Dialect("responses", "/v1/responses", responses.parse, responses.write, ResponsesAnswer, fault)
MESSAGES = Dialect(
    "messages", "/v1/messages", messages.parse, messages.write, MessagesAnswer, messages_answer.fault
)
COMPLETIONS = Dialect(
    "completions",
    "/v1/completions",
    completions.parse,
    completions.write,
    CompletionAnswer,
    fault,
    hardens=False,
)

DIALECTS = {d.name: d for d in (CHAT, RESPONSES, MESSAGES, COMPLETIONS)}
