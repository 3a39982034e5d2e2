"""Every command of the README runs as it stands there, on ports of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from guardproxy import policystore
from guardproxy.telemetry.audit import AuditLog, AuditPlan
from guardproxy.telemetry.metrics import Metrics
from tests.test_reload import served

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL)


def sh(script: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_minute_goes_as_the_readme_says() -> None:
    tour = next(b for b in blocks("sh") if "/leak" in b)
    with served(policystore.shipped_dir()) as (api, admin, _):
        out = sh(tour.replace("http://127.0.0.1:8080", api).replace("http://127.0.0.1:8081", admin))
        python = blocks("python")[0].replace("http://127.0.0.1:8080", api)
        answer = subprocess.run(
            [sys.executable, "-c", python], capture_output=True, text=True, timeout=60, check=True
        )
    assert '"id":"guardproxy-sandbox"' in out
    assert "I received" in out or "hello" in out
    assert out.count("withheld by this service") >= 3
    assert "Blue" not in out
    assert '"finish_reason":"content_filter"' in out
    assert '"code":"content_filter"' in out
    for outcome in ("answered", "blocked_output", "blocked_input", "cut"):
        assert f'outcome="{outcome}"' in out
    assert "1x1 PNG" in answer.stdout


def test_the_policy_commands_run() -> None:
    script = next(b for b in blocks("sh") if "policy check" in b)
    out = sh(script.replace(".venv/bin/guardproxy", f"{sys.executable} -m guardproxy"))
    assert "default" in out
    assert '"properties"' in out


def test_the_key_commands_run(tmp_path: Path) -> None:
    script = next(b for b in blocks("sh") if "key new" in b).replace("keys.json", str(tmp_path / "keys.json"))
    out = sh(script.replace(".venv/bin/guardproxy", f"{sys.executable} -m guardproxy"))
    assert "requests_per_minute=600" in out
    assert "pilot-team: revoked" in out


def test_the_audit_commands_run(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    AuditLog(AuditPlan(directory), 0, Metrics()).close()
    script = next(b for b in blocks("sh") if "audit tail" in b)
    script = re.sub(r" audit$", f" {directory}", script, flags=re.MULTILINE)
    out = sh(script.replace(".venv/bin/guardproxy", f"{sys.executable} -m guardproxy"))
    assert "start" in out
    assert "whole" in out


def test_the_commands_that_need_no_server_run() -> None:
    script = next(b for b in blocks("sh") if "guardproxy score" in b)
    out = sh(script.replace(".venv/bin/guardproxy", f"{sys.executable} -m guardproxy"))
    assert "input: allow" in out
    assert out.count('"action":"block"') == 2


def test_the_evaluation_runs_as_the_readme_says(tmp_path: Path) -> None:
    script = next(b for b in blocks("sh") if "eval run" in b)
    install, run = script.strip().splitlines()
    assert "[evals]" in install
    with served(policystore.shipped_dir()) as (api, _, _pid):
        run = run.replace("http://127.0.0.1:8080", api).replace(
            "first-evaluation", f"{tmp_path}/run --limit 8"
        )
        out = sh(run.replace(".venv/bin/guardproxy", f"{sys.executable} -m guardproxy"))
    assert "as-served" in out
    assert "over-refusal" in out
    assert (tmp_path / "run" / "report.html").exists()


def test_make_knows_the_commands_of_the_readme() -> None:
    for target in ("serve", "serve UPSTREAM=http://127.0.0.1:8000", "test", "test-e2e"):
        assert f"make {target}" in README
        planned = sh(f"make -n {target}")
        assert "guardproxy" in planned or "pytest" in planned


def test_every_metric_of_the_readme_exists_and_is_told() -> None:
    with served(policystore.shipped_dir()) as (_, admin, _pid):
        text = sh(f"curl -s {admin}/metrics")
    for name in re.findall(r"`(guardproxy_[a-z_]+)", README):
        assert f"# HELP {name} " in text or f"# HELP {name.removesuffix('_total')}" in text
