"""A policy's rules go into their slot of a request.

Runs after judging; changes no client text except that `spotlight` marks untrusted text as such.
"""

from __future__ import annotations

import re
from dataclasses import replace

from guardproxy.core.content import ImagePart, Message, Part, Request, TextPart
from guardproxy.core.policy import Hardening, Mode, Policy, Slot
from guardproxy.core.texts import DATAMARK, HARDENING_TEXTS, SPOTLIGHT_PICTURES

_KANA = re.compile("[\u3041-\u30ff\uff66-\uff9f]")
_SPACE = re.compile(r"[ \t\u3000]+")
_CJK_RUN = re.compile("([\u3041-\u30ff\u3400-\u9fff]{6})(?=[\u3041-\u30ff\u3400-\u9fff])")
ADDED = "policy"
"""Place of the texts that hardening adds."""


def language_of(request: Request) -> str:
    """`ja` if a user turn holds kana, else `en`."""
    for message in reversed(request.messages):
        if message.role == "user" and any(
            isinstance(p, TextPart) and not p.text.isascii() and _KANA.search(p.text) for p in message.parts
        ):
            return "ja"
    return "en"


def harden(policy: Policy, request: Request, *, model: str, nonce: str, marker: str = "") -> Request:
    """Add the policy's rules.

    In the system message they stand first, and the client's own system text follows unchanged.

    Args:
        policy: Whose rules; in monitor mode nothing is added.
        request: Canonical: at most one system message, at the front.
        model: The model's name, for `per_model`.
        nonce: Unpredictable text that closes spotlighted data, new for each request.
        marker: Unpredictable text that no answer may hold, for `leak_marker`.
    """
    if policy.mode is not Mode.ENFORCE or not policy.hardening:
        return request
    spoken = language_of(request)
    rules: list[str] = []
    before: list[str] = []
    after: list[str] = []
    for one in policy.hardening:
        slot = one.slot_for(model)
        if slot is None:
            continue
        language = spoken if one.language == "auto" else one.language
        if one.use == "spotlight":
            marked = _spotlight(request, nonce)
            notes = [] if marked is request else [_text(one, language, nonce, marker)]
            request = marked
            if any(isinstance(p, ImagePart) for m in request.messages for p in m.parts):
                notes.append(SPOTLIGHT_PICTURES.get(language))
            if not notes:
                continue
            text = "\n\n".join(notes)
        else:
            text = _text(one, language, nonce, marker)
        if slot is Slot.SYSTEM:
            rules.append(text)
        if slot in (Slot.USER_PREFIX, Slot.SANDWICH):
            before.append(text)
        if slot in (Slot.USER_SUFFIX, Slot.SANDWICH):
            after.append(text)
    request = _into_user(request, before, after) if before or after else request
    return _into_system(request, rules) if rules else request


def _text(one: Hardening, language: str, nonce: str, marker: str) -> str:
    text = (one.text or HARDENING_TEXTS[one.use]).get(language)
    if one.use == "text":
        return text
    return text.format(nonce=nonce, mark=DATAMARK, marker=marker)


def _into_system(request: Request, rules: list[str]) -> Request:
    part = TextPart("\n\n".join(rules), ADDED)
    first = request.messages[0] if request.messages else None
    if first is not None and first.role == "system":
        return request.with_messages((replace(first, parts=(part, *first.parts)), *request.messages[1:]))
    return request.with_messages((Message("system", (part,), ADDED), *request.messages))


def _into_user(request: Request, before: list[str], after: list[str]) -> Request:
    messages = list(request.messages)
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == "user":
            parts: list[Part] = [TextPart(t, ADDED) for t in before]
            parts += messages[index].parts
            parts += [TextPart(t, ADDED) for t in after]
            messages[index] = replace(messages[index], parts=tuple(parts))
            break
    return request.with_messages(tuple(messages))


def _spotlight(request: Request, nonce: str) -> Request:
    if all(m.role != "tool" for m in request.messages):
        return request
    return request.with_messages(
        tuple(
            replace(
                m,
                parts=tuple(
                    replace(p, text=spotlight(p.text, nonce)) if isinstance(p, TextPart) else p
                    for p in m.parts
                ),
            )
            if m.role == "tool"
            else m
            for m in request.messages
        )
    )


def spotlight(text: str, nonce: str) -> str:
    """Delimit and datamark: spaces become a mark; text without spaces gets one every six characters."""
    marked = _CJK_RUN.sub(lambda m: m[1] + DATAMARK, _SPACE.sub(DATAMARK, text))
    return f"<<data {nonce}>>\n{marked}\n<<end {nonce}>>"


def added_text(request: Request) -> str:
    """What hardening wrote: the policy's own texts."""
    parts = (p for m in request.messages for p in m.parts)
    return "\n".join(p.text for p in parts if isinstance(p, TextPart) and p.place == ADDED)
