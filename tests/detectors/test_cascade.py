"""A cascade: the expensive detector sees only what the cheap one cannot settle, and its word replaces the first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.content import Segment
from guardproxy.core.judge import judge
from guardproxy.core.policy import FailMode, Guard
from guardproxy.core.verdict import Action, Finding, Stage
from guardproxy.detectors import registry
from guardproxy.detectors.base import Content, Resources
from guardproxy.detectors.cascade import Cascade, Step, build
from guardproxy.errors import DetectorError, PolicyError
from guardproxy.inforce import load_policies
from tests.core.test_judge import policy
from tests.fakes import MODEL, Proxy, say
from tests.guard_server import GuardServer, Reply, Seen, chat

Start = Callable[..., Proxy]


class Scores:
    """Gives each text the score that a table says, and remembers what it was shown."""

    version = "1"
    inline = True

    def __init__(self, name: str, scores: Mapping[str, float], category: str = "x") -> None:
        self.name, self._scores, self._category = name, scores, category
        self.shown: list[str] = []

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        texts = [s.text for s in content.segments]
        self.shown += texts
        if "FAIL" in texts:
            raise DetectorError("no", "unreadable")
        return tuple(
            Finding(self.name, self._category, self._scores[s.text], s.place)
            for s in content.segments
            if s.text in self._scores
        )


def content(*texts: str) -> Content:
    return Content(tuple(Segment("user", f"messages[{i}]", t, turn=i) for i, t in enumerate(texts)))


def outcome(cascade: Cascade, asked: Content) -> dict[str, float]:
    found = asyncio.run(cascade.detect(asked))
    return {f.place: f.score for f in found if f.detector == "cascade"}


def made(*steps: Step) -> Cascade:
    return Cascade(steps, frozenset(Stage), "1")


def test_only_what_is_in_the_band_is_asked_about_again() -> None:
    cheap = Scores("cheap", {"low": 0.1, "edge": 0.2, "doubt": 0.5, "top": 0.9, "high": 0.95})
    dear = Scores("dear", {"edge": 0.01, "doubt": 0.8, "top": 0.7})
    cascade = made(Step(cheap), Step(dear, 0.2, 0.9))
    found = outcome(cascade, content("low", "edge", "doubt", "top", "high"))
    assert list(found.values()) == [0.1, 0.95, 0.01, 0.8, 0.7]
    assert dear.shown == ["edge", "doubt", "top"]
    asyncio.run(cascade.detect(content("low", "high")))
    assert len(dear.shown) == 3


def test_a_third_stage_is_asked_by_what_the_second_said() -> None:
    one, two, three = (Scores(n, {"t": s}) for n, s in (("one", 0.5), ("two", 0.6), ("three", 0.1)))
    assert outcome(made(Step(one), Step(two, 0.4, 0.55), Step(three, 0.58, 0.7)), content("t")) == {
        "messages[0]": 0.1
    }
    assert outcome(made(Step(one), Step(two, 0.4, 0.55), Step(three, 0.4, 0.5)), content("t")) == {
        "messages[0]": 0.6
    }
    assert three.shown == ["t"]


def test_what_every_stage_saw_is_kept_and_only_the_outcome_decides() -> None:
    """Else the alarm of the cheap one would stop what the expensive one has cleared."""
    cheap, dear = Scores("cheap", {"t": 0.85}), Scores("dear", {"t": 0.05}, "controversial")
    found = asyncio.run(made(Step(cheap), Step(dear, 0.2, 0.9)).detect(content("t")))
    assert [(f.detector, f.category, f.score) for f in found] == [
        ("cheap", "x", 0.85),
        ("dear", "controversial", 0.05),
        ("cascade", "controversial", 0.05),
    ]
    guard = Guard("g", Stage.INPUT, "cascade", ("user",), 0.5, Action.BLOCK)
    verdict = judge(policy(guard), Stage.INPUT, {"g": found})
    assert verdict.action is Action.ALLOW
    assert len(verdict.guards[0].findings) == 3


def test_a_stage_that_is_needed_and_cannot_look_fails_the_whole() -> None:
    with pytest.raises(DetectorError):
        outcome(made(Step(Scores("cheap", {"FAIL": 0.5}))), content("FAIL"))
    cheap, dear = Scores("cheap", {"fine": 0.1}), Scores("dear", {})
    assert outcome(made(Step(cheap), Step(dear, 0.2, 0.9)), content("fine"))
    with pytest.raises(DetectorError):
        outcome(made(Step(Scores("c", {"bad": 0.5})), Step(_Failing(), 0.2, 0.9)), content("bad"))


class _Failing(Scores):
    def __init__(self) -> None:
        super().__init__("dear", {})

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        raise DetectorError("away", "timeout")


def test_a_detector_that_joins_texts_speaks_for_all_of_them() -> None:
    class Joins(Scores):
        async def detect(self, content: Content) -> tuple[Finding, ...]:
            return (Finding("joins", "x", 0.5, content.segments[0].place),)

    dear = Scores("dear", {"a": 0.1, "b": 0.9})
    assert outcome(made(Step(Joins("joins", {})), Step(dear, 0.2, 0.9)), content("a", "b")) == {
        "messages[0]": 0.1,
        "messages[1]": 0.9,
    }


def test_what_finds_nothing_is_only_asked_about_again_from_zero_on() -> None:
    quiet, dear = Scores("quiet", {}), Scores("dear", {"t": 0.7})
    assert outcome(made(Step(quiet), Step(dear, 0.1, 0.9)), content("t")) == {}
    assert outcome(made(Step(quiet), Step(dear, 0.0, 0.9)), content("t")) == {"messages[0]": 0.7}


@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    second=st.lists(st.floats(0, 1), min_size=6, max_size=6),
    band=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
)
def test_each_text_has_the_score_of_the_last_stage_that_was_asked(
    scores: list[float], second: list[float], band: list[float]
) -> None:
    names = [f"t{i}" for i in range(len(scores))]
    cheap, dear = (
        Scores("cheap", dict(zip(names, scores, strict=True))),
        Scores("dear", dict(zip(names, second, strict=False))),
    )
    found = outcome(made(Step(cheap), Step(dear, band[0], band[1])), content(*names))
    for index, score in enumerate(scores):
        expected = second[index] if band[0] <= score <= band[1] else score
        assert found[f"messages[{index}]"] == expected


# In a policy.

PATTERNS = {"detector": "patterns", "when": "0..0.5", "patterns": [{"id": "p", "text": "Blue Heron"}]}


def test_patterns_inside_hold_a_stream_back_as_they_do_alone() -> None:
    cascade = build({"of": ["refusal", PATTERNS]}, Resources())
    assert isinstance(cascade, Cascade)
    alone = registry.build("patterns", {"patterns": PATTERNS["patterns"]}, Resources())
    assert cascade.longest == alone.longest > 0  # type: ignore[attr-defined]  # of this one
    assert cascade.held_suffix("I saw a blue her", 0) == len("blue her")
    assert cascade.inline
    assert cascade.stages == {Stage.OUTPUT}


def test_a_served_stage_waits_and_names_its_back_end() -> None:
    cascade = build(
        {"of": ["harmful_answer", {"detector": "llama_guard", "backend": "g", "when": "0.2..0.9"}]},
        Resources(),
    )
    assert isinstance(cascade, Cascade)
    assert not cascade.inline
    assert cascade.backends == ("g",)
    assert cascade.held_suffix("x", 0) == 0


def test_the_version_is_that_of_all_stages() -> None:
    def version(when: str, **keys: Any) -> str:
        of = ["harmful_answer", {"detector": "llama_guard", "backend": "g", "when": when, **keys}]
        return build({"of": of}, Resources()).version

    assert version("0.2..0.9") == version("0.2..0.9")
    assert len({version("0.2..0.9"), version("0.3..0.9"), version("0.2..0.9", logprobs=False)}) == 3


SECOND = {"detector": "refusal", "when": "0.2..0.9"}


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (None, "of: expected a list of 2 to 5"),
        (["refusal"], "of: expected a list of 2 to 5"),
        (["refusal"] * 6, "of: expected a list of 2 to 5"),
        (["refusall", SECOND], r"of\[0\]: detector: 'refusall' cannot be a stage; did you mean 'refusal'"),
        (["cascade", SECOND], r"of\[0\]: detector: 'cascade' cannot be a stage"),
        ([5, SECOND], r"of\[0\]: expected a detector's name"),
        ([{"when": "0..1"}, SECOND], r"of\[0\]: expected a detector's name"),
        ([SECOND, SECOND], r"of\[0\]: when: the first stage is always asked"),
        (["refusal", "refusal"], r"of\[1\]: when: expected LOW..HIGH, got nothing"),
        (["refusal", {**SECOND, "when": "0.9..0.2"}], r"of\[1\]: when: .* got '0.9..0.2'"),
        (["refusal", {**SECOND, "when": "0.2-0.9"}], r"of\[1\]: when"),
        (["refusal", {**SECOND, "when": "0.2..7"}], r"of\[1\]: when"),
        (["refusal", {**SECOND, "when": 0.2}], r"of\[1\]: when"),
        (["refusal", {**SECOND, "threshold": 0.5}], r"of\[1\]: threshold: unknown key for detector refusal"),
        (["refusal", {"detector": "judge", "when": "0..1"}], r"of\[1\]: backend: expected a text"),
        (["harmful_request", SECOND], "no stage in common"),
    ],
)  # fmt: skip
def test_what_a_policy_cannot_say(of: object, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        build({"of": of}, Resources())


def test_a_cascade_stands_where_all_of_its_detectors_can(tmp_path: Any) -> None:
    (tmp_path / "routing.yaml").write_text("rules: [{match: {}, policy: p}]\n")
    text = "schema: 1\nname: p\nguards: [{{name: g, stage: {}, detector: cascade, of: [harmful_answer, {{detector: refusal, when: 0.2..0.9}}]}}]\n"
    (tmp_path / "p.yaml").write_text(text.format("output"))
    assert load_policies(tmp_path).policies
    (tmp_path / "p.yaml").write_text(text.format("input"))
    with pytest.raises(
        PolicyError, match=r"guards\[0\] \(g\): of: not every detector of this cascade suits stage input"
    ):
        load_policies(tmp_path)
    (tmp_path / "p.yaml").write_text(text.format("output").replace("of:", "on_hit: redact, of:"))
    with pytest.raises(PolicyError, match="does not"):
        load_policies(tmp_path)


# Over HTTP.


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cheap detector that is sure of two words and in doubt of a third."""
    monkeypatch.setitem(
        registry.DETECTORS,  # type: ignore[arg-type]  # a dict, seen as a mapping
        "cheap",
        registry.Entry("tests.detectors.test_cascade:build_cheap", ("user",), ("content",)),
    )


class Cheap:
    name = "cheap"
    version = "1"
    inline = True

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        def score(text: str) -> float:
            return 0.95 if "BAD" in text else 0.5 if "MAYBE" in text else 0.05

        return tuple(Finding("cheap", "x", score(s.text), s.place) for s in content.segments)


def build_cheap(parameters: object, resources: object) -> Cheap:
    return Cheap()


def guarded(stage: str, **more: str) -> str:
    extra = "".join(f", {k}: {v}" for k, v in more.items())
    return (
        f"guards: [{{name: g, stage: {stage}, detector: cascade, threshold: 0.7{extra}, "
        "of: [cheap, {detector: llama_guard, backend: g, when: 0.2..0.9}]}]\n"
    )


def script(seen: Seen) -> Reply:
    last = seen.body["messages"][-1]["content"]
    return Reply(chat("unsafe\nS1" if "WORSE" in last else "safe"))


def ask(proxy: Proxy, text: str, *, stream: bool = False) -> httpx.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "stream": stream}
    return httpx.post(f"{proxy.url}/v1/chat/completions", json=body, timeout=20)


@pytest.mark.usefixtures("cheap")
def test_requests_reach_the_expensive_guard_only_in_doubt(proxy: Start) -> None:
    with GuardServer(script) as server:
        running = proxy(guarded("input"), backends={"g": {"url": server.url}})
        assert [ask(running, t).status_code for t in ("fine", "BAD")] == [200, 400]
        assert server.seen == []
        assert [ask(running, t).status_code for t in ("MAYBE", "MAYBE WORSE")] == [200, 400]
        assert len(server.seen) == 2
    assert running.count("guardproxy_backend_requests_total", backend="g", result="ok") == 2


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("stream", [False, True])
def test_answers_too_buffered_and_streamed(proxy: Start, stream: bool) -> None:
    with GuardServer(script) as server:
        for said, is_cut, is_asked in (
            ("All is fine.", False, False),
            ("BAD it is.", True, False),
            ("MAYBE so.", False, True),
            ("MAYBE WORSE.", True, True),
        ):
            before = len(server.seen)
            running = proxy(guarded("output"), script=say(said), backends={"g": {"url": server.url}})
            text = ask(running, "Hi", stream=stream).text
            assert ("content_filter" in text) is is_cut
            assert (said in text) is not is_cut
            assert (len(server.seen) > before) is is_asked


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("mode", list(FailMode))
def test_an_expensive_guard_that_is_away_fails_as_the_policy_says(proxy: Start, mode: FailMode) -> None:
    with GuardServer(Reply(status=500)) as server:
        running = proxy(guarded("input", fail_mode=mode.value), backends={"g": {"url": server.url}})
        assert ask(running, "fine").status_code == 200
        assert ask(running, "MAYBE").status_code == (503 if mode is FailMode.CLOSED else 200)
