"""Makes a request canonical before it is judged: so what was judged is what is sent.

Special tokens in client text lose their power, system texts become one message, texts side by side one
text, and turns that the proxy itself blocked leave the history.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from guardproxy.core.content import Message, Part, Request, TextPart, Tool, ToolCall
from guardproxy.errors import WireError

_BREAK = "\u200b"

FAMILY_TOKENS = (
    # Llama 2 and Mistral; Gemma; LLaVA and friends; tool and thinking tags of Qwen and DeepSeek.
    "<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
    "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]",
    "[IMG]", "[IMG_BREAK]", "[IMG_END]", "<bos>", "<eos>", "<pad>", "<unk>", "<mask>",
    "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>",
    "<image>", "</image>", "<video>", "<audio>", "<img>", "</img>", "<IMG_CONTEXT>",
    "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<think>", "</think>",
    "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>",
    # Further ones of Mistral; GLM; StarCoder, whose vocabulary SmolLM has. Words that ordinary markup uses too, such as
    # <filename> or <box>, are for `upstream.special_tokens`, where a served model has them.
    "[THINK]", "[/THINK]", "[ARGS]", "[CALL_ID]", "[AUDIO]", "[BEGIN_AUDIO]", "[gMASK]", "[sMASK]", "<sop>", "<eop>",
    "<repo_name>", "<file_sep>", "<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>", "<jupyter_start>",
    "<jupyter_text>", "<jupyter_code>", "<jupyter_output>", "<jupyter_script>", "<empty_output>", "<fim_prefix>",
    "<fim_middle>", "<fim_suffix>", "<fim_pad>",
)  # fmt: skip
"""Control tokens of common model families that the generic `<|…|>` form does not cover."""


class SpecialTokens:
    """Finds control tokens of the served model in client text and breaks them.

    Args:
        extra: Further tokens, from the settings.
    """

    def __init__(self, extra: Iterable[str] = ()) -> None:
        literals = sorted({*FAMILY_TOKENS, *extra}, key=len, reverse=True)
        # Bounded and without nested repeats: linear on any text.
        generic = r"<[|｜][^<>\s]{1,64}?[|｜]>|<row_\d{1,3}_col_\d{1,3}>"
        self._pattern = re.compile("|".join([generic, *map(re.escape, literals)]), re.IGNORECASE)

    def neutralise(self, text: str) -> str:
        """The text with a zero-width space after the first character of each control token."""
        if "<" not in text and "[" not in text:
            return text
        return self._pattern.sub(lambda m: m[0][0] + _BREAK + m[0][1:], text)

    def neutralise_request(self, request: Request) -> Request:
        """The request with every client string neutralised."""
        if not any("<" in text or "[" in text for text in _texts_of(request)):
            return request
        return replace(
            request,
            messages=tuple(self._message(m) for m in request.messages),
            tools=tuple(self._tool(t) for t in request.tools),
            schema=None if request.schema is None else self.neutralise(request.schema),
        )

    def _message(self, message: Message) -> Message:
        return replace(
            message,
            parts=tuple(
                replace(p, text=self.neutralise(p.text)) if isinstance(p, TextPart) else p
                for p in message.parts
            ),
            name=None if message.name is None else self.neutralise(message.name),
            tool_calls=tuple(
                ToolCall(c.id, self.neutralise(c.name), self.neutralise(c.arguments))
                for c in message.tool_calls
            ),
        )

    def _tool(self, tool: Tool) -> Tool:
        return replace(
            tool,
            description=None if tool.description is None else self.neutralise(tool.description),
            parameters=None if tool.parameters is None else self.neutralise(tool.parameters),
        )


def _texts_of(request: Request) -> Iterator[str]:
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, TextPart):
                yield part.text
        if message.name is not None:
            yield message.name
        for call in message.tool_calls:
            yield call.name
            yield call.arguments
    for tool in request.tools:
        yield tool.description or ""
        yield tool.parameters or ""
    yield request.schema or ""


def merge_system(request: Request) -> Request:
    """All system and developer texts in one message at the front, in their order, unchanged."""
    system = [m for m in request.messages if m.role == "system"]
    if not system or (len(system) == 1 and request.messages[0].role == "system"):
        return request
    parts: tuple[Part, ...] = tuple(p for m in system for p in m.parts)
    merged = Message("system", parts, system[0].place)
    return request.with_messages((merged, *(m for m in request.messages if m.role != "system")))


def join_texts(request: Request) -> Request:
    """Texts that stand side by side in a turn become one text.

    Templates put them together, some without anything between: what a guard and the search for control tokens saw in
    two halves would be whole for the model. The line feed is vLLM's own way, where its templates take one string.
    """
    if not any(len(m.parts) > 1 for m in request.messages):
        return request
    return request.with_messages(tuple(replace(m, parts=tuple(_joined(m))) for m in request.messages))


def _joined(message: Message) -> list[Part]:
    between = "\n\n" if message.role == "system" else "\n"
    kept: list[Part] = []
    for part in message.parts:
        last = kept[-1] if kept else None
        if isinstance(part, TextPart) and isinstance(last, TextPart):
            kept[-1] = replace(last, text=f"{last.text}{between}{part.text}")
        else:
            kept.append(part)
    return kept


def repair_history(request: Request, block_messages: Iterable[str]) -> Request:
    """Without the turns that the proxy answered with one of its block messages.

    The user turn before such an answer goes with it, and tool turns in between: else one blocked
    turn would be judged again, and block, for the rest of the chat.
    """
    notices = tuple(block_messages)
    kept: list[Message] = []
    for message in request.messages:
        if message.role == "assistant" and _text_of(message).endswith(notices):
            while kept and kept[-1].role in ("tool", "assistant"):
                kept.pop()
            if kept and kept[-1].role == "user":
                kept.pop()
        else:
            kept.append(message)
    return request if len(kept) == len(request.messages) else request.with_messages(tuple(kept))


def canonical(request: Request, tokens: SpecialTokens, block_messages: Iterable[str]) -> Request:
    """The request as it is judged and sent.

    Raises:
        WireError: Nothing is left to answer.
    """
    request = tokens.neutralise_request(join_texts(merge_system(request)))
    request = repair_history(request, block_messages)
    if not any(m.role in ("user", "tool") for m in request.messages):
        raise WireError("messages: nothing is left to answer", param="messages")
    return request


def _text_of(message: Message) -> str:
    return "\n".join(p.text for p in message.parts if isinstance(p, TextPart)).rstrip()
