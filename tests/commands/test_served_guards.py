"""`score`, `look` and `policy check` with settings: served guards are asked, and rows are scored by them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guardproxy.cli import main
from tests.guard_server import GuardServer, Reply, Seen, chat

POLICY = """schema: 1
name: mine
guards:
  - {name: request, stage: input, detector: llama_guard, backend: gpu}
  - {name: answer, stage: output, detector: cascade, threshold: 0.6, of: [harmful_answer, {detector: llama_guard, backend: gpu, when: 0..1}]}
"""


def script(seen: Seen) -> Reply:
    return Reply(chat("unsafe\nS9" if "worse" in seen.body["messages"][-1]["content"] else "safe"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/mine.yaml").write_text(POLICY)
    (tmp_path / "policies/routing.yaml").write_text("rules: [{match: {}, policy: mine}]\n")
    return tmp_path


def config(folder: Path, url: str, name: str = "gpu") -> str:
    path = folder / "guardproxy.yaml"
    path.write_text(
        f"upstream: {{url: http://127.0.0.1:9}}\nbackends: {{{name}: {{url: '{url}', model: guard}}}}\n"
    )
    return str(path)


def test_rows_are_scored_by_a_served_guard(folder: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    rows = folder / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"id": i, "prompt": p, "response": "worse"}) + "\n"
            for i, p in enumerate(("fine", "worse"))
        )
    )
    with GuardServer(script) as server:
        more = [
            "--policy",
            "mine",
            "--policies",
            str(folder / "policies"),
            "--config",
            config(folder, server.url),
        ]
        assert main(["score", str(rows), *more]) == 0
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [(x["id"], x["stage"], x["action"]) for x in lines] == [
        (0, "input", "allow"),
        (0, "output", "block"),
        (1, "input", "block"),
        (1, "output", "block"),
    ]
    assert [f["detector"] for f in lines[1]["findings"]] == ["harmful_answer", "llama_guard", "cascade"]


def test_people_see_which_stage_of_a_cascade_said_what(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with GuardServer(script) as server:
        more = [
            "--policy",
            "mine",
            "--policies",
            str(folder / "policies"),
            "--config",
            config(folder, server.url),
        ]
        assert main(["look", "fine", "--answer", "worse", *more]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "weapons" in line]
    assert len(lines) == 2
    assert sum("→ block" in line for line in lines) == 1, "only the outcome counts"


def test_without_settings_the_guard_could_not_look(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["look", "fine", "--policy", "mine", "--policies", str(folder / "policies")]) == 0
    assert "could not look: error" in capsys.readouterr().out


def test_a_policy_is_compared_with_the_settings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policies = ["--policies", str(folder / "policies")]
    assert main(["policy", "check", *policies]) == 0
    assert main(["policy", "check", *policies, "--config", config(folder, "http://127.0.0.1:9")]) == 0
    assert main(["policy", "check", *policies, "--config", config(folder, "http://127.0.0.1:9", "gpus")]) == 1
    assert (
        "guards[0] (request): backend: no back end named 'gpu' in the settings; did you mean 'gpus'"
        in capsys.readouterr().err
    )
