"""Forms with letters in them: e-mail and IPv6 addresses, IBANs, passport numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv6Address

from guardproxy.detectors.forms import context
from guardproxy.detectors.forms.checksums import iban
from guardproxy.detectors.forms.form import Hit

_LOCAL_CHARS = "A-Za-z0-9._%+'-"
_LOCAL = re.compile(rf"[{_LOCAL_CHARS}]*\Z")
_DOMAIN_CHARS = re.compile(r"[A-Za-z0-9.-]*")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,24}\Z")
MAX_LOCAL = 64
MAX_DOMAIN = 180
"""RFC 5321, 4.5.3.1 allows 64 and 255 characters; a stream is not held for longer names than anybody has."""
_EMAIL_TAIL = re.compile(rf"[{_LOCAL_CHARS}]{{1,{MAX_LOCAL}}}(?:@[A-Za-z0-9.-]*)?\Z")
_NOT_PERSONAL = ("git@", "noreply@", "no-reply@")


class Email:
    """E-mail addresses: a dot-atom, `@` and a name with a top-level domain of letters (RFC 5321)."""

    longest = MAX_LOCAL + 1 + MAX_DOMAIN + 1

    def find(self, text: str, since: int) -> Iterator[Hit]:
        """As `Form.find`."""
        at = text.find("@", since)
        while at >= 0:
            hit = self._around(text, at)
            if hit is not None and hit.start >= since:
                yield hit
            at = text.find("@", at + 1)

    def undecided(self, text: str, since: int) -> int:
        """As `Form.undecided`: the last word, since any may become an address."""
        tail = _EMAIL_TAIL.search(text, max(since, len(text) - self.longest))
        return tail.start() if tail else len(text)

    def _around(self, text: str, at: int) -> Hit | None:
        low = max(0, at - MAX_LOCAL)
        local = _LOCAL.search(text[low:at])
        assert local is not None
        start = low + local.start()
        start += len(local[0]) - len(local[0].lstrip(".%+'-"))
        match = _DOMAIN_CHARS.match(text, at + 1, at + 1 + MAX_DOMAIN)
        name = match[0].rstrip(".-") if match else ""
        while name and not _DOMAIN.match(name):
            name = name.rpartition(".")[0]  # `taro@example.com.123` holds an address
        if start >= at or text[at - 1] == "." or not name:
            return None
        score = 0.4 if text[start : at + 1].lower() in _NOT_PERSONAL else 0.95
        return Hit(start, at + 1 + len(name), "email", score)


_LENGTHS: dict[str, str] = dict(
    re.findall(
        r"([A-Z]{2}):(\d\d)",
        "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BI:27 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 DE:22 DJ:27 "
        "DK:18 DO:28 EE:20 EG:29 ES:24 FI:18 FK:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 HN:28 HR:21 HU:28 "
        "IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25 MC:27 MD:24 ME:22 "
        "MK:19 MN:20 MR:27 MT:31 MU:30 NI:28 NL:18 NO:15 OM:23 PK:24 PL:28 PS:29 PT:25 QA:29 RO:24 RS:22 RU:33 SA:24 "
        "SC:31 SD:18 SE:24 SI:19 SK:24 SM:27 SO:23 ST:25 SV:28 TL:23 TN:24 TR:26 UA:29 VA:22 VG:24 XK:20 YE:30",
    )
)
"""Length of an IBAN by country (SWIFT, IBAN registry)."""
_IBAN_START = re.compile(r"[A-Za-z]{2}[0-9]{2}")
_IBAN_TAIL = re.compile(r"[A-Za-z](?:[A-Za-z](?:[0-9](?:[0-9](?:[ -]?[A-Za-z0-9])*[ -]?)?)?)?\Z")


class Iban:
    """IBANs: country, its length, and the check modulo 97 (ISO 13616-1)."""

    longest = 34 + 16 + 2

    def find(self, text: str, since: int) -> Iterator[Hit]:
        """As `Form.find`."""
        for match in _IBAN_START.finditer(text, since):
            start = match.start()
            length = int(_LENGTHS.get(match[0][:2].upper(), 0))
            if not length or (start and _is_word(text[start - 1])):
                continue
            end = _end_of(text, start, length)
            if end is None or (end < len(text) and _is_word(text[end])):
                continue
            compact = text[start:end].replace(" ", "").replace("-", "").upper()
            if iban(compact):
                yield Hit(start, end, "iban", 0.97)

    def undecided(self, text: str, since: int) -> int:
        """As `Form.undecided`."""
        return _word_tail(_IBAN_TAIL, text, max(since, len(text) - self.longest))


def _end_of(text: str, start: int, length: int) -> int | None:
    """Where so many letters and digits end that stand together or one separator apart."""
    at, seen, gap = start, 0, False
    while at < len(text):
        if _is_word(text[at]) and text[at] != "_":
            seen, gap = seen + 1, False
            if seen == length:
                return at + 1
        elif text[at] in " -" and not gap:
            gap = True
        else:
            return None
        at += 1
    return None


_HEX_RUN = re.compile(r"[0-9A-Fa-f:.]+")
_MAX_V6 = 45
_HEX_TAIL = re.compile(r"[0-9A-Fa-f:.]+\Z")


class Ipv6:
    """IPv6 addresses (RFC 4291); ones of this host and short ones that may be names in code count little."""

    longest = _MAX_V6 + 3

    def find(self, text: str, since: int) -> Iterator[Hit]:
        """As `Form.find`."""
        if "::" not in text and text.count(":") < 7:
            return
        for match in _HEX_RUN.finditer(text, max(0, since - self.longest)):
            start, run = match.start(), match[0]
            word = run.rstrip(".") if run.endswith("::") else run.rstrip(".:")
            if start < since or len(run) > _MAX_V6 or word.count(":") < 2:
                continue
            before, after = text[start - 1 : start], text[match.end() : match.end() + 1]
            if (before and _is_word(before)) or (after and _is_word(after)) or not _is_ipv6(word):
                continue
            yield Hit(start, start + len(word), "ip", _ipv6_score(text, start, word))

    def undecided(self, text: str, since: int) -> int:
        """As `Form.undecided`."""
        return _word_tail(_HEX_TAIL, text, max(since, len(text) - self.longest))


def _is_ipv6(word: str) -> bool:
    try:
        IPv6Address(word)
    except AddressValueError:
        return False
    return True


def _ipv6_score(text: str, start: int, word: str) -> float:
    if word in ("::", "::1"):
        return 0.3
    groups = [g for g in word.split(":") if g]
    if len(groups) >= 4:
        return 0.9
    if context.IP.before(text, start):
        return 0.85
    return 0.6 if len(groups) == 3 and any(c.isdigit() for c in word) else 0.3


_PASSPORT = re.compile(r"[A-Z]{1,2}[0-9]{7,8}")
_PASSPORT_TAIL = re.compile(r"[A-Z]{1,2}[0-9]{0,8}\Z")


class Passport:
    """Passport numbers after words that say so: Japan's two letters and seven digits, and a letter with eight."""

    longest = 11

    def find(self, text: str, since: int) -> Iterator[Hit]:
        """As `Form.find`."""
        for match in _PASSPORT.finditer(text, since):
            start, end = match.span()
            if (start and _is_word(text[start - 1])) or (end < len(text) and _is_word(text[end])):
                continue
            if len(match[0]) != 9:
                continue
            score = 0.9 if context.PASSPORT.before(text, start) else 0.25
            yield Hit(start, end, "passport", score)

    def undecided(self, text: str, since: int) -> int:
        """As `Form.undecided`."""
        return _word_tail(_PASSPORT_TAIL, text, max(since, len(text) - self.longest))


def _word_tail(tail: re.Pattern[str], text: str, low: int) -> int:
    """Where the tail begins that starts like a word of its own; the text's length if there is none."""
    while match := tail.search(text, low):
        if not match.start() or not _is_word(text[match.start() - 1]):
            return match.start()
        low = match.start() + 1
    return len(text)


def _is_word(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_")
