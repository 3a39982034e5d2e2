"""Secrets in texts and code: keys with a form, passwords in URLs, values that are assigned to a telling name."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator

import re2

from guardproxy.detectors.forms.form import Hit
from guardproxy.detectors.forms.secret_kinds import KINDS

LONGEST = 4096
"""Longest token in characters: of a longer one the start is covered."""

_WORD_TAIL = re.compile("[!#-&(-;=?-_a-~]+\\Z")
"""The last characters that a token, a URL or an assigned value can be made of: no space, quote or angle bracket."""

_VALUE = r"""([!#-&(-;=?-_a-~]{6,200})"""
_EQUALS = r"""["'\]]{0,2}\s{0,4}(?::=|=>|=|:)\s{0,4}["']?"""
_NAMED = (
    ("url_password", r"""\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/?#@:"'<>]{0,64}:([^\s/?#"'<>]{3,128})@[A-Za-z0-9\[]"""),
    ("authorization", rf"""(?i:authorization){_EQUALS}(?i:bearer|basic|token|apikey)\s{{1,3}}([A-Za-z0-9._~+/=-]+)"""),
    (
        "assigned_secret",
        rf"(?i:(?:api|access|auth|secret|private|encryption|signing|subscription|account|master|license)[_. -]?key|token|secret|credential)s?{_EQUALS}{_VALUE}",
    ),
    ("password", rf"(?i:passw(?:or)?d|passphrase|pwd|passwd|pass){_EQUALS}{_VALUE}"),
    ("password", rf"(?:パスワ-ド|暗証番号)(?:は|が|:|=)?\s{{0,3}}[「『:]?\s{{0,3}}{_VALUE}"),
)  # fmt: skip
SECRETS = tuple(sorted({kind.name for kind in KINDS} | {name for name, _ in _NAMED} | {"private_key"}))
"""Everything that is found; a guard's `entities` may name some of them."""

_PLACEHOLDER = re.compile(
    r"(?i)your|example|placeholder|change|dummy|sample|insert|redacted|password|passwd|secret|xxxx|\*\*\*|\.\.\.|1234567890?\Z|abcdef|process\.env|environ|getenv|config|settings|\A[$%{\[(]|\{\{|[(){}\[\]|]|test"
)
_IDENTIFIER = re.compile(
    r"[A-Za-z_$][A-Za-z_.$-]*[0-9]{0,2}\Z|[a-z]+(?:[A-Z][a-z]+)+[0-9]{0,2}\Z|[A-Za-z0-9_]+(?:\.[A-Za-z_]+)+\Z"
)
_TRIMMED = ",;.)}]"


class Tokens:
    """All kinds but private keys. A value that is a key of a known kind is no assigned secret besides.

    Args:
        names: The kinds that are looked for.
    """

    longest = LONGEST

    def __init__(self, names: Collection[str]) -> None:
        options = re2.Options()
        options.log_errors = False
        options.max_mem = 64 << 20
        every = [(kind.name, kind.expression) for kind in KINDS] + list(_NAMED)
        expressions = [one for one in every if one[0] in names]
        self._set = re2.Set.SearchSet(options)
        for _, expression in expressions:
            self._set.Add(expression)
        self._set.Compile()
        self._each = [(name, re2.compile(expression, options)) for name, expression in expressions]

    def find(self, text: str, since: int) -> Iterator[Hit]:
        """As `Form.find`."""
        known: list[Hit] = []
        for index in sorted(self._set.Match(text) or ()):
            name, expression = self._each[index]
            for match in expression.finditer(text):
                start, end = match.span(1 if expression.groups else 0)
                hit = _graded(name, text, start, min(end, start + LONGEST))
                if hit is None or any(
                    hit.start < k.end and k.start < hit.end and k.score >= hit.score for k in known
                ):
                    continue
                known.append(hit)
                if start >= since:
                    yield hit

    def undecided(self, text: str, since: int) -> int:
        """As `Form.undecided`: the last word."""
        tail = _WORD_TAIL.search(text, max(since, len(text) - LONGEST))
        return tail.start() if tail else len(text)


def _graded(name: str, text: str, start: int, end: int) -> Hit | None:
    value = text[start:end]
    if name == "url_password":
        return Hit(start, end, name, 0.3 if _PLACEHOLDER.search(value) else 0.85)
    if name in ("authorization", "assigned_secret", "password"):
        value = value.rstrip(_TRIMMED)
        score = password_score(value) if name == "password" else token_score(value)
        return Hit(start, start + len(value), name, score) if score else None
    return Hit(start, end, name, 0.95 if len(set(value[-20:])) > 4 else 0.3)


def entropy(value: str) -> float:
    """Shannon entropy of a text's characters, in bits a character."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


def token_score(value: str) -> float:
    """How much an assigned value looks made by a machine: long, mixed, without words."""
    if len(value) < 16 or _PLACEHOLDER.search(value) or _IDENTIFIER.match(value):
        return 0.0
    if not re.search("[0-9]", value) or not re.search("[A-Za-z]", value):
        return 0.0
    bits = entropy(value)
    return 0.75 if bits >= 3.5 else 0.6 if bits >= 3.0 else 0.3


def password_score(value: str) -> float:
    """How much an assigned value looks like somebody's password: not a name in code, not an example."""
    if len(value) < 6 or _IDENTIFIER.match(value):
        return 0.0
    kinds = sum(bool(re.search(c, value)) for c in ("[a-z]", "[A-Z]", "[0-9]", "[^A-Za-z0-9]"))
    if kinds < 2 or value[0] in "/.~" or _PLACEHOLDER.search(value):
        return 0.2
    return 0.6 if len(value) >= 8 and (kinds >= 3 or entropy(value) >= 3.0) else 0.4


MAX_KEY = 16_384
"""Longest private key block in characters, above OpenPGP keys and RSA ones of 16,384 bits."""
_HEADER = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_HEADER_TAIL = re.compile(r"-{1,5}\Z|-----B[A-Z]{0,4}\Z|-----BEGIN [A-Z0-9 ]{0,60}-{0,5}\Z")
_HEADING = re.compile(r"(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset):[^\n\\]{0,100}")
_BETWEEN = re.compile(r"""(?:\s|\\n|\\r|["'+,|>])*""")
_BODY = re.compile(r"[A-Za-z0-9+/=]+")
_END = re.compile(r"-----END [A-Z0-9 ]{1,50}-----")
_END_TAIL = re.compile(r"(?:-{1,5}|-----E[A-Z0-9 ]{0,53}-{0,5}|\\)\Z")
MIN_LINE = 16
"""Shortest line of a key's body but its last: words of prose are shorter."""


class PrivateKey:
    """Private key blocks (RFC 7468, RFC 1421, OpenSSH, OpenPGP), their line ends escaped or not.

    A header alone is no secret. Once a body follows, a stream is held until the block is over, however long: up to
    `MAX_KEY` characters, of which a policy's bound on what is held knows only the ordinary `longest`.
    """

    longest = LONGEST

    def find(self, text: str, since: int) -> Iterator[Hit]:
        """As `Form.find`."""
        for match in _HEADER.finditer(text, since):
            end, size, _ = _block(text, match.end(), match.start() + MAX_KEY)
            if size >= MIN_LINE:
                yield Hit(match.start(), end, "private_key", 0.98 if size >= 40 else 0.6)

    def undecided(self, text: str, since: int) -> int:
        """As `Form.undecided`."""
        for match in _HEADER.finditer(text, max(since, len(text) - MAX_KEY)):
            _, _, is_open = _block(text, match.end(), match.start() + MAX_KEY)
            if is_open:
                return match.start()
        tail = _HEADER_TAIL.search(text, max(since, len(text) - 80))
        return tail.start() if tail else len(text)


def _block(text: str, at: int, limit: int) -> tuple[int, int, bool]:
    """Where a key's body ends, how many characters it has, and whether more text could go on with it."""
    end, size, short = at, 0, False
    limit = min(limit, len(text))
    while True:
        gap = _BETWEEN.match(text, at, limit)
        at = gap.end() if gap else at
        if at >= limit:
            return end, size, limit == len(text)
        if finish := _END.match(text, at):
            return finish.end(), size, False
        if _END_TAIL.match(text, at):
            return end, size, True
        if heading := _HEADING.match(text, at, limit):
            at = heading.end()
            continue
        line = _BODY.match(text, at, limit)
        if line is None or short:
            return end, size, False
        at = line.end()
        short = len(line[0]) < MIN_LINE
        if short and at >= limit:
            return end, size, limit == len(text)
        size += len(line[0])
        end = at
