"""Secrets of every kind are found, hardly anything else is; a stream leaks none of one, however it is cut."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.content import Segment
from guardproxy.core.verdict import Action
from guardproxy.detectors.base import Content, Resources
from guardproxy.detectors.forms.form import FormDetector
from guardproxy.detectors.forms.secret_forms import MAX_KEY, SECRETS, entropy
from guardproxy.detectors.forms.secret_kinds import KINDS
from guardproxy.detectors.secrets import build, detector
from guardproxy.errors import PolicyError
from tests.detectors.secret_samples import BASE64, Maker
from tests.detectors.streams import Stream, cut_up, detect, found_in, whole

ALL = detector()
SAMPLES = Maker(1).samples()

FALSE = [
    "The secret to a good password is length: password managers help. Token economy, key results.",
    'api_key = os.environ["API_KEY"]; token = get_token(user); password = data["password"]',
    'API_KEY="your-api-key-here" token: <YOUR_TOKEN> secret = "changeme" password=********',
    "max_tokens=4096, tokenizer: sentencepiece, keyboard = qwertyuiop, secret: classified",
    "Authorization: Bearer <token>; Authorization: Bearer YOUR_ACCESS_TOKEN_1",
    "postgres://user:password@localhost/db and http://example.org:8080/a@b and mailto:a:b@c",
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n-----END PUBLIC KEY-----",
    "A key starts with -----BEGIN RSA PRIVATE KEY----- and then there are lines of letters and so on.",
    "commit da39a3ee5e6b4b0d3255bfef95601890afd80709, uuid 123e4567-e89b-12d3-a456-426614174000",
    "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU= data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUA",
    "password: str = Field(min_length=8)  passwords: 12 characters  pwd: /home/user/dir2",
    "sk-learn, sk-1, hf_model, npm_config_registry, ghp_xxx, AKIA, eyJ and pass: 3 of 10",
    "パスワードは忘れないでください。パスワード：８文字以上",
    "const accessToken = response.data.accessToken2; this.secretKey = config.secretKey;",
]


@pytest.mark.parametrize("at", range(len(SAMPLES)), ids=lambda i: f"{SAMPLES[i][0]}-{i}")
def test_it_is_found_with_its_span(at: int) -> None:
    kind, text, secret = SAMPLES[at]
    assert (kind, secret) in found_in(ALL, text)


def test_every_kind_has_a_sample_and_a_source() -> None:
    assert {kind for kind, _, _ in SAMPLES} == set(SECRETS)
    assert all(kind.source for kind in KINDS)


@pytest.mark.parametrize("text", FALSE)
def test_prose_and_code_are_no_hit(text: str) -> None:
    assert found_in(ALL, text) == set()


def test_a_known_key_is_not_an_assigned_secret_besides() -> None:
    key = "ghp_" + Maker(2).of("abcdefghijk0123456789", 36)
    assert found_in(ALL, f'token = "{key}"') == {("github_token", key)}
    assert found_in(detector(["assigned_secret"]), f'token = "{key}"') == {("assigned_secret", key)}


def test_every_expression_is_seen_by_the_first_look() -> None:
    """The set of all expressions and each alone agree, at the end of a long text too."""
    for kind, text, secret in SAMPLES:
        assert (kind, secret) in found_in(ALL, "Some words. " * 5_000 + text)


def test_a_guard_may_name_kinds() -> None:
    only = build({"entities": ["private_key"]}, Resources())
    assert isinstance(only, FormDetector)
    text = f"{SAMPLES[0][2]} {Maker(3).private_key()}"
    assert {f.category for f in detect(only, Content((Segment("user", "u", text),)))} == {"private_key"}
    with pytest.raises(PolicyError, match="unknown entity 'githubtoken'; did you mean 'github_token'"):
        build({"entities": ["githubtoken"]}, Resources())


SHORT = [s for s in SAMPLES if s[0] != "private_key"]
KEY = Maker(4).private_key(rows=3)
PIECES = (
    [text for _, text, _ in SHORT]
    + [secret for _, _, secret in SHORT]
    + [secret[: len(secret) // 2] for _, _, secret in SHORT]
    + [KEY, KEY[:40], KEY[:90], KEY[-40:], "-----BEGIN PRIVATE KEY-----", "-----END", "Version: x\n"]
    + ["password", "api_key", " = ", '"', "'", "://", ":", "@", "Bearer ", ".", " ", "\n", "-", "-----", "です", "eyJ", "\\", "word"]
)  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=7).map("".join)
sizes = st.lists(st.integers(1, 60), min_size=1, max_size=5)
flags = st.lists(st.booleans(), max_size=4)


@given(texts, sizes, flags)
def test_a_stream_is_redacted_exactly_however_it_is_cut(
    text: str, chunks: list[int], early: list[bool]
) -> None:
    assert Stream(ALL).send(cut_up(text, chunks), early) == whole(ALL, text)


@given(texts, sizes, flags)
def test_a_block_leaks_nothing_of_a_hit(text: str, chunks: list[int], early: list[bool]) -> None:
    found = [h for h in ALL.spot(text) if h.score >= 0.5]
    out = Stream(ALL, Action.BLOCK).send(cut_up(text, chunks), early)
    assert text.startswith(out)
    assert len(out) <= min((h.start for h in found), default=len(text))


@pytest.mark.parametrize("size", [1, 7, 100])
def test_every_sample_is_redacted_in_a_stream(size: int) -> None:
    for _, text, secret in SAMPLES if size > 1 else SHORT:
        out = Stream(ALL).send(cut_up(text, [size]), [True])
        assert out == whole(ALL, text)
        assert secret not in out


@pytest.mark.parametrize("rows", [70, 200])
def test_a_private_key_longer_than_a_look_back_does_not_leak(rows: int) -> None:
    key = Maker(5).private_key(rows=rows)
    assert 4_096 < len(key) < MAX_KEY
    assert Stream(ALL).send(cut_up(f"Here: {key}\nDone.", [50])) == "Here: [private_key]\nDone."


def test_a_private_key_that_breaks_off_does_not_leak() -> None:
    key = Maker(6).private_key()[:600]
    assert Stream(ALL).send(cut_up(f"Here: {key}", [50])) == "Here: [private_key]"


def test_prose_is_held_for_a_word_at_most() -> None:
    text = "There is nothing secret in this sentence."
    assert max(ALL.held_suffix(text[:n], 0) for n in range(len(text))) <= 9
    assert ALL.held_suffix("秘密はありません", 0) == 0


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "-----BEGIN PRIVATE KEY-----\n",
        "eyJa.",
        "password=",
        "a:b@",
        "ftp://a:bcd",
        "AKIA",
        "- ",
        "A" * 64 + "\n",
    ],
)
def test_hostile_texts_cost_linear_time(unit: str) -> None:
    text = unit * (20_000 // len(unit))
    started = time.process_time()
    ALL.spot(text)
    ALL.held_suffix(text, 0)
    assert time.process_time() - started < 2


def test_entropy_is_bits_a_character() -> None:
    assert entropy("aaaa") == 0
    assert entropy("abcd") == 2
    assert entropy(BASE64) == 6
