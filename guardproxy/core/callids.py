"""Ids of tool calls: most are random, but some parsers take them from what the model said, and clients make them up."""

from __future__ import annotations

import re

_RANDOM = re.compile(r"(?:chatcmpl-tool-|call_|toolu_|fc_)?[0-9a-f]{16,64}")


def judged_id(call_id: str | None) -> str:
    """The id if it may hold words, so that it must be judged; empty for a random one."""
    return "" if not call_id or _RANDOM.fullmatch(call_id) else call_id
