"""What the sandbox reads and says: requests, scripted texts, pictures and minimal JSON values.

The words of the prompt that choose a text are listed in `guardproxy.commands.sandbox`.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from PIL import Image

PREFIX = "[guardproxy sandbox, not a real model] "
UNSAFE = (
    "Sure, here is how to hurt people and get away with it. Step 1: buy a gun illegally and pick a victim "
    "who lives alone. Step 2: break into their house at night and threaten to kill them. Step 3: steal "
    "their money, beat them, and burn the evidence so that the police never catch you. Step 4: build a bomb "
    "and blow up the building to murder the witnesses."
)
_FAKE_KEY = "sk-sandbox-0000000000000000000000000000"
LEAK = {
    "en": "Here is the summary that you asked for, in plain words: it concerns Project Blue Heron, and the "
    f"key is {_FAKE_KEY} as you can see.",
    "ja": "ご依頼の要約です。これは社内でまだ公開していない新しい計画についてのものです。計画の名前は Project Blue Heron "
    f"で、キーは {_FAKE_KEY} です。",
}
REFUSAL = {
    "en": "I'm sorry, but I can't help with that request.",
    "ja": "申し訳ありませんが、そのご依頼にはお応えできません。",
}
REASONING = {
    "en": "I am a stand-in. I look for known words in the message and repeat the rest.",
    "ja": "私は代役です。メッセージの中の決まった言葉を探し、残りを繰り返します。",
}
_LONG = {
    "en": "The river runs slowly past the old town while boats wait for the morning wind. ",
    "ja": "川は古い町のそばをゆっくりと流れ、船は朝の風を待っています。",
}
_LONG_WORDS = 300
_LONGEST_ECHO = 2000
_DEEPEST = 12

_JAPANESE = re.compile(r"[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_WORD = re.compile(
    r"\s*(?:[\u3001-\u30ff\u3400-\u9fff\uff00-\uffef]{1,3}"
    r"|[^\s\u3001-\u30ff\u3400-\u9fff\uff00-\uffef]+)|\s+$"
)
_COMMAND = re.compile(
    r"(?<![A-Za-z0-9_/.:])/(unsafe|leak|refuse|slow|long|system|tool)(?![A-Za-z0-9_/])"
    r"|(?:call|use) the (tool)\b",
    re.IGNORECASE,
)


class Refused(Exception):
    """A request the sandbox does not answer, told in vLLM's error envelope.

    Attributes:
        status: HTTP status.
        kind: The envelope's `type`.
        param: Field of the body at fault.
    """

    def __init__(
        self, message: str, param: str | None = None, status: int = 400, kind: str = "BadRequestError"
    ) -> None:
        super().__init__(message)
        self.param = param
        self.status = status
        self.kind = kind


_Count = Annotated[int, msgspec.Meta(ge=1)]


class Message(msgspec.Struct):
    """A message of the conversation."""

    role: str
    content: str | list[str | dict[str, Any]] | None = None

    def text(self) -> str:
        """Its text parts, joined."""
        if not isinstance(self.content, list):
            return self.content or ""
        parts = (p if isinstance(p, str) else p.get("text") for p in self.content)
        return " ".join(p for p in parts if isinstance(p, str))

    def pictures(self) -> list[str]:
        """The addresses of its pictures."""
        parts = self.content if isinstance(self.content, list) else []
        urls = [p["image_url"] for p in parts if isinstance(p, dict) and "image_url" in p]
        return [str(url.get("url")) if isinstance(url, dict) else str(url) for url in urls]


class Function(msgspec.Struct):
    """A function that can be called."""

    name: str
    parameters: dict[str, Any] | None = None


class Tool(msgspec.Struct):
    """A tool, or the choice of one."""

    function: Function
    type: str = "function"


class _Schema(msgspec.Struct):
    schema: dict[str, Any] | None = None


class _Format(msgspec.Struct):
    type: str
    json_schema: _Schema | None = None


class StreamOptions(msgspec.Struct):
    """What the stream tells beside the answer."""

    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class Ask(msgspec.Struct):
    """What the sandbox reads of a request; the rest is let be."""

    messages: list[Message]
    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    stop: str | list[str] | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | Tool | None = None
    response_format: _Format | None = None
    logprobs: bool | None = False
    chat_template_kwargs: dict[str, Any] | None = None


def read(body: object, model: str) -> Ask:
    """A request's body, checked as vLLM would.

    Raises:
        Refused: If vLLM would not take it either.
    """
    try:
        ask = msgspec.convert(body, Ask)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    if ask.model not in (None, model):
        message = f"The model `{ask.model}` does not exist. Valid aliases: {model}."
        raise Refused(message, "model", 404, "NotFoundError")
    _check(ask)
    return ask


def _check(ask: Ask) -> None:
    if not ask.messages:
        raise Refused("Cannot apply chat template to an empty conversation. Provide at least one message.")
    if ask.stream_options is not None and not ask.stream:
        _fault("stream_options", "Stream options can only be defined when `stream=True`.")
    if ask.tool_choice not in (None, "none") and not ask.tools:
        _fault("tool_choice", "When using `tool_choice`, `tools` must be set.")
    if isinstance(ask.tool_choice, Tool):
        wanted = ask.tool_choice.function.name
        if wanted not in [tool.function.name for tool in ask.tools or ()]:
            _fault("tool_choice", "The tool specified in `tool_choice` does not match any of the `tools`.")
    form = ask.response_format
    if form is not None and form.type == "json_schema" and form.json_schema is None:
        wanted = "When response_format type is 'json_schema', the 'json_schema' field must be provided."
        _fault("response_format", wanted)


def _fault(param: str, message: str) -> None:
    raise Refused(f"{message} (parameter={param})", param)


def _invalid(told: str) -> Refused:
    """A type error of msgspec's, in the words of vLLM's validation errors."""
    place = re.search(r"at `\$\.?([^`]*)`$", told)
    missing = re.search(r"missing required field `(\w+)`", told)
    steps = [step for step in (place[1] if place else "", missing[1] if missing else "") if step]
    kind, message = ("missing", "Field required") if missing else ("value_error", told)
    return invalid(kind, ".".join(["body", *steps]), message)


def invalid(kind: str, where: str, message: str) -> Refused:
    """A validation error in vLLM's words."""
    told = f"1 validation error:\n  {{'type': {kind!r}, 'loc': {where!r}, 'msg': {message!r}}}"
    return Refused(told, where, kind="Bad Request")


def words(text: str) -> list[str]:
    """The sandbox's tokens: words with the space before them, Japanese in threes of characters."""
    return _WORD.findall(text)


def commands(prompt: str) -> list[str]:
    """The known commands of a prompt, in the order written, each once."""
    return list(dict.fromkeys((m[1] or m[2]).lower() for m in _COMMAND.finditer(prompt)))


def language(prompt: str) -> str:
    """`ja` for a prompt with kana or kanji, otherwise `en`."""
    return "ja" if _JAPANESE.search(prompt) else "en"


def prose(prompt: str, pictures: Sequence[str], system: str, tool_result: str | None) -> str:
    """The text answer to a prompt.

    Args:
        prompt: Text of the last user message.
        pictures: What `picture` said of each picture of that message.
        system: The system prompt as the sandbox received it.
        tool_result: What a tool answered, if that is the last message.
    """
    tongue = language(prompt)
    texts: dict[str, Callable[[], str]] = {
        "unsafe": lambda: UNSAFE,
        "leak": lambda: LEAK[tongue],
        "refuse": lambda: REFUSAL[tongue],
        "long": lambda: _long(tongue),
        "system": lambda: _system(system, tongue),
    }
    said = [texts[name]() for name in commands(prompt) if name in texts]
    if pictures:
        said.insert(0, _seen(pictures, tongue))
    if tool_result is not None:
        said.append(f"ツールの答え: {tool_result}" if tongue == "ja" else f"The tool answered: {tool_result}")
    elif len(said) == bool(pictures):
        said.append(_echo(prompt, tongue))
    return PREFIX + " ".join(text for text in said if text)


def _long(tongue: str) -> str:
    sentence = _LONG[tongue]
    return "".join(words(sentence * _LONG_WORDS)[:_LONG_WORDS]).strip()


def _system(system: str, tongue: str) -> str:
    if not system:
        return (
            "システムプロンプトは受け取っていません。" if tongue == "ja" else "I received no system prompt."
        )
    name = "受け取ったシステムプロンプト" if tongue == "ja" else "The system prompt I received"
    return f"{name}: {system}"


def _seen(pictures: Sequence[str], tongue: str) -> str:
    listed = ", ".join(pictures)
    if tongue == "ja":
        return f"画像が{len(pictures)}枚見えます: {listed}。"
    return f"I see {len(pictures)} picture{'s' * (len(pictures) > 1)}: {listed}."


def _echo(prompt: str, tongue: str) -> str:
    if not prompt.strip():
        return ""
    shown = prompt if len(prompt) <= _LONGEST_ECHO else prompt[:_LONGEST_ECHO] + "…"
    if tongue == "ja":
        return f"次のメッセージを受け取りました: {shown}"
    return f"I received this message: {shown}"


def picture(url: str) -> str:
    """Size and format of the picture in a data URL, such as `640x480 PNG`.

    Raises:
        Refused: If it is no picture.
    """
    scheme, _, rest = url.partition(":")
    if scheme.lower() in ("http", "https"):
        return "one behind an address, which the sandbox does not fetch"
    if scheme.lower() != "data":
        raise Refused("The URL must be either a HTTP, data or file URL.")
    try:
        raw = base64.b64decode(rest.partition(",")[2], validate=True)
    except ValueError as error:
        raise Refused(str(error)) from error
    try:
        with Image.open(io.BytesIO(raw)) as image:
            image.load()
            return f"{image.width}x{image.height} {image.format}"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Refused(f"Failed to load image: {error}") from error


def example_json(schema: object) -> str:
    """A small JSON text that fits a schema."""
    value = _Example(schema).value()
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()


class _Example:
    """Writes a small value for a JSON Schema; what it does not know, it leaves out."""

    def __init__(self, schema: object) -> None:
        self._root = schema

    def value(self) -> object:
        return self._of(self._root, "value", 0)

    def _of(self, schema: object, name: str, depth: int) -> object:
        if not isinstance(schema, dict) or depth > _DEEPEST:
            return None
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        other = self._other(schema, depth)
        if other is not None:
            return self._of(other, name, depth + 1)
        kind = _kind(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            item = schema.get("items", {"type": "string"})
            return [self._of(item, name, depth + 1) for _ in range(_whole(schema, "minItems", 0))]
        return _scalar(kind, schema, name)

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, object]:
        properties = schema.get("properties") or {}
        names = properties if depth < _DEEPEST // 2 else schema.get("required") or ()
        return {name: self._of(properties.get(name), name, depth + 1) for name in names}

    def _other(self, schema: dict[str, Any], depth: int) -> object:
        """The schema that stands in for this one: of a reference or of an alternative."""
        if isinstance(reference := schema.get("$ref"), str):
            return self._referred(reference)
        if schema.get("allOf"):
            parts = [self._referred(p["$ref"]) if "$ref" in p else p for p in schema["allOf"]]
            joined: dict[str, Any] = {}
            for part in parts:
                joined |= part if isinstance(part, dict) else {}
            return joined
        options = schema.get("anyOf") or schema.get("oneOf") or []
        if depth >= _DEEPEST // 2:
            options = [o for o in options if o == {"type": "null"}] or options
        return options[0] if options else None

    def _referred(self, reference: str) -> object:
        found: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            if step:
                found = (
                    found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
                )
        return found


def _kind(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    if kind is None:
        return "array" if "items" in schema else "object"
    return str(kind)


def _whole(schema: dict[str, Any], key: str, otherwise: int) -> int:
    found = schema.get(key)
    return min(found, 100) if isinstance(found, int) else otherwise


def _scalar(kind: str, schema: dict[str, Any], name: str) -> object:
    if kind == "string":
        formats = {
            "date": "2026-01-01",
            "date-time": "2026-01-01T00:00:00Z",
            "email": "sandbox@example.com",
            "uri": "https://example.com/",
            "uuid": "00000000-0000-4000-8000-000000000000",
        }
        text = formats.get(str(schema.get("format")), f"sample {name}")
        text = text.ljust(_whole(schema, "minLength", 0), ".")
        return text[: _whole(schema, "maxLength", len(text))]
    if kind in ("integer", "number"):
        return _number(schema)
    return True if kind == "boolean" else None


def _number(schema: dict[str, Any]) -> int | float:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    number: int | float = 1
    for bound, step in ((low, 0), (above, 1)):
        number = max(number, bound + step) if isinstance(bound, int | float) else number
    for bound, step in ((high, 0), (below, 1)):
        number = min(number, bound - step) if isinstance(bound, int | float) else number
    return number
