"""The set-ups in deploy/examples run as they stand, against the sandbox and the proxy on this machine.

The tools are large (npm: promptfoo, 1.4 GB; PyPI: garak, 6 GB with torch), so they are not installed for the tests:
whoever has them on the PATH, or names them in PROMPTFOO and GARAK, runs these.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_reload import served

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "deploy/examples"


def program(name: str) -> str:
    path = os.environ.get(name.upper()) or shutil.which(name)
    if not path:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.mark.slow
def test_promptfoo_finds_that_work_passes_and_attacks_are_stopped(tmp_path: Path) -> None:
    promptfoo = program("promptfoo")
    with served(ROOT / "policies") as (api, _, _):
        environment = {
            **os.environ,
            "GUARDPROXY_URL": api,
            "GUARDPROXY_MODEL": "guardproxy-sandbox",
            "GUARDPROXY_KEY": "unused",
            "PROMPTFOO_DISABLE_TELEMETRY": "1",
            "PROMPTFOO_DISABLE_UPDATE": "1",
            "PROMPTFOO_CONFIG_DIR": str(tmp_path / "state"),
        }
        command = [promptfoo, "eval", "--no-cache", "--no-progress-bar", "-o", str(tmp_path / "out.json")]
        command += ["-c", str(EXAMPLES / "promptfoo/promptfooconfig.yaml")]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=180, cwd=tmp_path
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert results["stats"]["successes"] == 5
    assert results["stats"]["errors"] == 0
    said = [one["response"]["output"] for one in results["results"]]
    assert sum(text == "[blocked: content_filter]" for text in said) == 2


@pytest.mark.slow
def test_garak_probes_through_the_proxy_and_counts_blocks_as_passes(tmp_path: Path) -> None:
    garak = program("garak")
    policies, state = tmp_path / "policies", tmp_path / "state"
    shutil.copytree(ROOT / "policies", policies)
    default = policies / "default.yaml"
    default.write_text(default.read_text().replace("input: error", "input: message"))
    config: dict[str, Any] = yaml.safe_load((EXAMPLES / "garak/guardproxy.yaml").read_text())
    config["run"]["soft_probe_prompt_cap"] = 16
    with served(policies) as (api, _, _):
        config["plugins"]["generators"]["openai"]["OpenAICompatible"]["uri"] = f"{api}/v1/"
        (tmp_path / "garak.yaml").write_text(yaml.safe_dump(config))
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "OPENAICOMPATIBLE_API_KEY": "unused",
            **{f"XDG_{name}_HOME": str(state) for name in ("DATA", "CONFIG", "CACHE")},
        }
        command = [garak, "--config", str(tmp_path / "garak.yaml")]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (report,) = state.rglob("*.report.jsonl")
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    measured = {line["probe"]: line for line in lines if line["entry_type"] == "eval"}
    assert set(measured) == set(config["plugins"]["probe_spec"].split(","))
    assert all(line["total_evaluated"] > 0 and line["nones"] == 0 for line in measured.values())
    said = [str(line["outputs"]) for line in lines if line["entry_type"] == "attempt" and line["status"] == 2]
    assert any("withheld by this service" in text for text in said)
