"""Recording rules and alerts, judged by Prometheus' own tool."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from guardproxy.telemetry.metrics import Metrics
from tests.deploy.tools import tool

ROOT = Path(__file__).parent.parent.parent
PROMETHEUS = ROOT / "deploy/prometheus"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "rules/guardproxy.yaml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run([tool("promtool"), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def exported() -> set[str]:
    """The names of all samples that guardproxy exports."""
    names = set()
    for family in Metrics().registry.collect():
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        names |= {family.name + end for end in ends}
    return names


def test_prometheus_reads_its_configuration_and_rules() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert f"{len(RULES)} rules found" in promtool("check", "rules", PROMETHEUS / "rules/guardproxy.yaml")


@pytest.mark.parametrize("name", ["service.yaml", "policies.yaml", "guards.yaml"])
def test_alerts_fire_when_they_should(name: str) -> None:
    assert "SUCCESS" in promtool("test", "rules", PROMETHEUS / "tests" / name)


def test_each_alert_is_shown_to_fire_and_not_to_fire() -> None:
    shown: dict[str, set[bool]] = {name: set() for name in ALERTS}
    for path in (PROMETHEUS / "tests").glob("*.yaml"):
        for case in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            for one in case.get("promql_expr_test", ()):
                name = re.findall(r'alertname="(\w+)"', one["expr"])[0]
                shown[name].add(bool(one["exp_samples"]))
    assert {name for name, cases in shown.items() if cases != {True, False}} == set()


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_what_it_means_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert len(rule["annotations"]["summary"]) > 20
    assert len(rule["annotations"]["description"]) > 100
    assert f"| {name} |" in (ROOT / "docs/operations.md").read_text("utf-8")


def test_rules_use_only_what_is_exported() -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    for rule in RULES:
        names = set(re.findall(r"\bguardproxy[_:][a-z0-9_:]+", rule["expr"]))
        assert names <= exported() | recorded, rule
