"""Served guards against the real vLLM: what they ask is understood, and its answers are read."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from time import perf_counter

import httpx
import pytest

from guardproxy.core.content import Segment
from guardproxy.detectors import registry
from guardproxy.detectors.backends import BackendPlan, Backends
from guardproxy.detectors.base import Content, Resources
from guardproxy.errors import DetectorError
from tests.e2e.conftest import ENVIRONMENT, RIG, _free_port, _stop, _wait
from tests.fakes import MODEL, Proxy, say

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="session")
def guard_models(rig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Two tiny guard models on the real server: the addresses of `chat` and `classifier`."""
    made, script = rig / "guards", RIG / "make_guards.py"
    stamp = made / f"made-{sha256(script.read_bytes()).hexdigest()[:16]}"
    if not stamp.exists():
        subprocess.run([str(rig / "venv/bin/python"), str(script), str(made)], check=True, timeout=600)
        stamp.touch()
    logs = tmp_path_factory.mktemp("guards")
    small = ["--dtype", "float32", "--served-model-name", "guard", "--enforce-eager"]
    # An untrained model fills the spaces that JSON allows until its tokens are over.
    strict = '{"backend":"xgrammar","disable_any_whitespace":true}'
    chat = [
        "--max-model-len",
        "8192",
        "--kv-cache-memory-bytes",
        "67108864",
        "--structured-outputs-config",
        strict,
    ]
    classifier = ["--max-model-len", "256", "--runner", "pooling", "--gpu-memory-utilization", "0.05"]
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(_served(rig, [str(made / name), *small, *flags], logs / name))
            for name, flags in (("chat", chat), ("classifier", classifier))
        }


@contextmanager
def _served(rig: Path, flags: list[str], log: Path) -> Iterator[str]:
    port = _free_port()
    command = [str(rig / "venv/bin/vllm"), "serve", *flags, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=ENVIRONMENT, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, 400, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        _stop(process)


FINE = "please tell me how to open the red door"
BAD = "please tell me how to open the forbidden door"


def judged(url: str, name: str, content: Content, **parameters: object) -> dict[str, float]:
    """What a detector finds with a real server behind it: category to the highest score."""

    async def main() -> dict[str, float]:
        backends = Backends({"g": BackendPlan(url, model="guard")})
        detector = registry.build(name, {"backend": "g", **parameters}, Resources(backends=backends))
        try:
            found = await detector.detect(content)
        finally:
            await backends.close()
        return {f.category: f.score for f in sorted(found, key=lambda f: f.score)}

    return asyncio.run(main())


def request(text: str) -> Content:
    return Content((Segment("user", "messages[0].content", text, turn=0),))


def answer(text: str, question: str) -> Content:
    return Content((Segment("content", "choices[0].content", text),), question)


def test_llama_guard_reads_the_real_servers_words_and_logprobs(guard_models: dict[str, str]) -> None:
    url = guard_models["chat"]
    fine, bad = judged(url, "llama_guard", request(FINE)), judged(url, "llama_guard", request(BAD))
    assert 0 < fine["unsafe"] < 0.2, "a share, not just the word"
    assert 0.8 < bad["weapons"] < 1


def test_llama_guard_judges_the_answer_and_not_the_question(guard_models: dict[str, str]) -> None:
    url = guard_models["chat"]
    assert judged(url, "llama_guard", answer(BAD, FINE))["weapons"] > 0.8
    assert judged(url, "llama_guard", answer(FINE, FINE))["unsafe"] < 0.2


def test_without_logprobs_the_word_alone_counts(guard_models: dict[str, str]) -> None:
    assert judged(guard_models["chat"], "llama_guard", request(BAD), logprobs=False) == {"weapons": 1.0}


def test_a_text_that_is_too_long_for_the_model_is_no_answer(guard_models: dict[str, str]) -> None:
    with pytest.raises(DetectorError) as error:
        judged(guard_models["chat"], "llama_guard", request("Zq7" * 3600))
    assert error.value.reason == "error"
    found = judged(guard_models["chat"], "llama_guard", request("blue birds " * 90 + BAD), max_chars=400)
    assert found["weapons"] > 0.8, "in pieces it fits"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("qwen3guard", {}),
        ("granite_guardian", {}),
        ("granite_guardian", {"form": "4.1"}),
        ("wildguard", {}),
        ("gpt_oss_safeguard", {"policy": "No."}),
    ],
)
def test_the_server_takes_what_the_others_ask_and_another_models_answer_is_unreadable(
    guard_models: dict[str, str], name: str, parameters: dict[str, object]
) -> None:
    """Their own models are not here. What can be shown: the request is valid, and `safe` in the wrong form says nothing."""
    with pytest.raises(DetectorError) as error:
        judged(guard_models["chat"], name, request("hi"), **parameters)
    assert error.value.reason == "unreadable"


def test_a_judge_gets_the_schema_it_asks_for(guard_models: dict[str, str]) -> None:
    """Whatever the model knows: with structured output the answer can be read, and the three shares add up."""
    found = judged(guard_models["chat"], "judge", request("hi"), rubric="No.")
    assert found
    assert all(0 <= score <= 1 for score in found.values())


def test_classify_reads_a_batch_in_order(guard_models: dict[str, str]) -> None:
    content = Content((
        Segment("user", "messages[0].content", FINE, turn=0),
        Segment("user", "messages[1].content", BAD, turn=1),
    ))  # fmt: skip

    async def main() -> list[tuple[str, float]]:
        backends = Backends({"g": BackendPlan(guard_models["classifier"], model="guard")})
        detector = registry.build("classify", {"backend": "g"}, Resources(backends=backends))
        found = await detector.detect(content)
        await backends.close()
        return [(f.place, f.score) for f in found]

    (fine, low), (bad, high) = asyncio.run(main())
    assert (fine, bad) == ("messages[0].content", "messages[1].content")
    assert low < 0.2
    assert high > 0.8


def test_classify_notices_labels_in_the_wrong_order(guard_models: dict[str, str]) -> None:
    with pytest.raises(DetectorError) as error:
        judged(guard_models["classifier"], "classify", request(BAD), labels=["unsafe", "safe"])
    assert error.value.reason == "unreadable"


def test_the_wrong_model_is_no_answer(guard_models: dict[str, str]) -> None:
    async def main() -> None:
        backends = Backends({"g": BackendPlan(guard_models["classifier"], model="another")})
        detector = registry.build("classify", {"backend": "g"}, Resources(backends=backends))
        with pytest.raises(DetectorError, match="status 404"):
            await detector.detect(request("hi"))
        await backends.close()

    asyncio.run(main())


POLICY = """
gate: full
guards:
  - {name: request, stage: input, detector: classify, backend: classifier, threshold: 0.8, budget_ms: 10000}
  - {name: answer, stage: output, detector: llama_guard, backend: chat, threshold: 0.8, budget_ms: 10000}
"""


def test_the_proxy_blocks_with_both(
    guard_models: dict[str, str], proxy_in_process: Callable[..., Proxy], tmp_path: Path
) -> None:
    backends = {name: {"url": url, "model": "guard"} for name, url in guard_models.items()}
    for text, reply, status, finish in (
        (FINE, "a quiet river", 200, "stop"),
        (BAD, "a quiet river", 400, None),
        (FINE, BAD, 200, "content_filter"),
    ):
        running = proxy_in_process(POLICY, say(reply), backends=backends)
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
        started = perf_counter()
        response = httpx.post(f"{running.url}/v1/chat/completions", json=body, timeout=30)
        assert response.status_code == status, response.text
        if finish:
            assert response.json()["choices"][0]["finish_reason"] == finish
        assert perf_counter() - started < 20


@pytest.fixture
def proxy_in_process(tmp_path: Path) -> object:
    """The proxy in front of a scripted model, as in the other tests; `proxy` here is the one before the real model."""
    stack = ExitStack()

    def start(policy: str, script: object, **settings: object) -> Proxy:
        folder = tmp_path / f"policies-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return stack.enter_context(Proxy(folder, policy, script, **settings))  # type: ignore[arg-type]  # a script

    with stack:
        yield start
