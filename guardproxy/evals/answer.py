"""One answer as it came, before anybody judges it."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

Key = tuple[str, str, int]
"""Case, arm and repeat: what is asked once."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got for one case in one arm.

    Attributes:
        repeat: 0 for the first time that this was asked.
        status: Of HTTP; 0 where no answer came at all.
        code: The error's `code`, or a word for the transport error; None for an answer.
        error: The error's message.
        content: `message.content`.
        refusal: `message.refusal`.
        tool_calls: Name and arguments of each.
        action: Of the `guardproxy` key: `allow`, `redact`, `repair` or `block`; None without a proxy.
        guard_code: The `guardproxy` key's `code`.
        unjudged: The `guardproxy` key's `unjudged`.
        policy: Of the header `x-guardproxy-policy`.
        version: Of the header `x-guardproxy-version`.
        prompt_tokens: As the model server counted; None where it did not say.
        ms: From the request's first byte to the answer's last.
    """

    case: str
    arm: str
    repeat: int
    status: int
    ms: float
    code: str | None = None
    error: str | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    finish_reason: str | None = None
    tool_calls: tuple[str, ...] = ()
    action: str | None = None
    guard_code: str | None = None
    unjudged: tuple[str, ...] = ()
    policy: str | None = None
    version: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def key(self) -> Key:
        """What was asked."""
        return self.case, self.arm, self.repeat

    @property
    def text(self) -> str:
        """What the model said: what a judge reads. Reasoning is not part of it."""
        return "\n".join(t for t in (self.content or self.refusal or "", *self.tool_calls) if t)

    @property
    def is_blocked(self) -> bool:
        """Whether the proxy (or another service's filter) stopped it, before the model or after."""
        if self.status == 400:
            return self.code in ("content_filter", "unjudged_content")
        stopped = self.action == "block" or self.finish_reason == "content_filter"
        return self.status == 200 and stopped and self.guard_code != "guard_unavailable"

    @property
    def is_error(self) -> bool:
        """Whether there is no answer: it is asked again when the run is resumed.

        A guard that could not look has stopped nothing: that is an error too, not a block.
        """
        return not self.is_blocked and (self.status != 200 or self.guard_code == "guard_unavailable")

    @property
    def digest(self) -> str:
        """Of the text: labels are kept for it."""
        return sha256(self.text.encode()).hexdigest()[:16]
