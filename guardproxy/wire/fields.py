"""Which fields of a chat request are forwarded, refused or dropped, and how each is typed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from guardproxy.errors import WireError

MAX_N = 4
MAX_STOP = 4
MAX_STOP_CHARS = 256
_HUGE = 10**18

REFUSED = frozenset(
    (
        "chat_template", "continue_final_message", "add_generation_prompt", "echo", "structured_outputs",
        "allowed_token_ids", "bad_words", "logit_bias", "ignore_eos", "min_tokens", "stop_token_ids",
        "include_stop_str_in_output", "use_beam_search", "prompt_logprobs", "return_token_ids",
        "return_tokens_as_token_ids", "return_prompt_text", "logprob_token_ids", "truncate_prompt_tokens",
        "documents", "prompt_embeds", "mm_processor_kwargs", "media_io_kwargs", "kv_transfer_params",
        "ec_transfer_params", "vllm_xargs", "lora_name", "lora_request",
    )
)  # fmt: skip
"""Dropping these would change the answer behind the user's back, so they are a 400."""

KNOWN_DROPPED = frozenset(
    (
        "metadata", "store", "request_id", "priority", "session_id", "cache_salt", "truncation_side",
        "service_tier", "modalities", "audio", "prediction", "safety_identifier", "prompt_cache_key",
        "verbosity", "web_search_options", "best_of", "length_penalty", "add_special_tokens",
        "spaces_between_special_tokens", "functions", "function_call", "include_reasoning",
        "thinking_token_budget", "watermarking", "stream_interval", "guided_choice", "guided_json",
        "guided_regex", "guided_grammar", "moderation", "stream_options", "uuid", "detail", "refusal",
        "annotations", "reasoning", "reasoning_content", "cache_control",
    )
)  # fmt: skip
"""Dropped and counted under their own name; any other unknown field counts as `other`."""


def kind_of(value: object) -> str:
    """What came, in JSON's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    names: dict[type, str] = {str: "string", list: "array", dict: "object"}
    return names.get(type(value), "unknown")


def wrong(param: str, expected: str, value: object) -> WireError:
    """A 400 that names the field, what was expected and what came."""
    return WireError(f"{param}: expected {expected}, got {kind_of(value)}", param=param)


def _shown(value: float) -> str:
    # Python writes an integer of thousands of digits as neither a float nor a string.
    return f"{value:g}" if abs(value) < _HUGE else "a number beyond all bounds"


def number(low: float, high: float) -> Callable[[str, object], object]:
    """A number in `[low, high]`."""

    def read(param: str, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise wrong(param, "a number", value)
        if not low <= value <= high:
            raise WireError(f"{param}: must be in [{low:g}, {high:g}], got {_shown(value)}", param=param)
        return value

    return read


def integer(low: int, high: int) -> Callable[[str, object], object]:
    """An integer in `[low, high]`."""

    def read(param: str, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong(param, "an integer", value)
        if not low <= value <= high:
            raise WireError(f"{param}: must be in [{low}, {high}], got {_shown(value)}", param=param)
        return value

    return read


def boolean(param: str, value: object) -> object:
    """A boolean."""
    if not isinstance(value, bool):
        raise wrong(param, "a boolean", value)
    return value


def one_of(*words: str) -> Callable[[str, object], object]:
    """One of some words."""

    def read(param: str, value: object) -> object:
        if value not in words:
            raise WireError(f"{param}: expected one of {', '.join(words)}", param=param)
        return value

    return read


def short_text(limit: int) -> Callable[[str, object], object]:
    """A string of at most `limit` characters."""

    def read(param: str, value: object) -> object:
        if not isinstance(value, str):
            raise wrong(param, "a string", value)
        if len(value) > limit:
            raise WireError(f"{param}: at most {limit} characters, got {len(value)}", param=param)
        return value

    return read


def stop(param: str, value: object) -> object:
    """A string or up to four."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(s, str) for s in listed):
        raise wrong(param, "a string or an array of strings", value)
    if len(listed) > MAX_STOP or any(len(s) > MAX_STOP_CHARS for s in listed):
        raise WireError(f"{param}: at most {MAX_STOP} strings of {MAX_STOP_CHARS} characters", param=param)
    return value


def template_kwargs(param: str, value: object) -> object:
    """Only the booleans `enable_thinking` and `thinking`: other template variables reach the prompt."""
    if not isinstance(value, dict):
        raise wrong(param, "an object", value)
    for key, item in value.items():
        if key not in ("enable_thinking", "thinking"):
            raise WireError(f"{param}.{key}: not allowed through this proxy", param=f"{param}.{key}")
        boolean(f"{param}.{key}", item)
    return value


OPTIONS: Mapping[str, Callable[[str, object], object]] = {
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "top_k": integer(-1, 1_000_000),
    "min_p": number(0, 1),
    "max_tokens": integer(1, 10_000_000),
    "max_completion_tokens": integer(1, 10_000_000),
    "stop": stop,
    "seed": integer(-(2**63), 2**63 - 1),
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "repetition_penalty": number(0.01, 10),
    "logprobs": boolean,
    "top_logprobs": integer(0, 0),
    "parallel_tool_calls": boolean,
    "reasoning_effort": one_of("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "user": short_text(512),
    "chat_template_kwargs": template_kwargs,
}
