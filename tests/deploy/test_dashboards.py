"""Every query of every dashboard and rule, against a real Prometheus that watched the real proxy."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from guardproxy.telemetry.metrics import OUTCOMES
from tests.deploy.rig import Rig, running
from tests.deploy.test_rules import exported

ROOT = Path(__file__).parent.parent.parent
FILES = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
DASHBOARDS: dict[str, dict[str, Any]] = {f.stem: json.loads(f.read_text("utf-8")) for f in FILES}
PANELS = [(name, p) for name, d in DASHBOARDS.items() for p in d["panels"] if p["type"] != "row"]
QUERIES = [
    pytest.param(target["expr"], id=f"{name}-{panel['id']}-{target['refId']}")
    for name, panel in PANELS
    for target in panel["targets"]
]
LOAD_S = 20.0
NEVER = {"shutdown"}
"""An outcome that comes about only when it stops."""


def filled(expr: str, policy: str) -> str:
    """A query as Grafana would send it."""
    values = {"__rate_interval": "2m", "__range": "2m", "policy": policy, "version": ".*", "detector": ".*"}
    return re.sub(r"\$(\w+)", lambda m: values[m[1]], expr)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running(tmp_path_factory.mktemp("rig")) as rig:
        asyncio.run(rig.load(LOAD_S / 2))
        rig.reload(broken=True)
        time.sleep(1)
        rig.reload(broken=False)
        asyncio.run(rig.load(LOAD_S / 2))
        time.sleep(2.5)  # the last exchanges are counted and scraped
        yield rig


@pytest.mark.slow
def test_the_load_ends_in_every_way(rig: Rig) -> None:
    found = rig.query("query", query="sum by (outcome) (guardproxy_exchanges_total)")["result"]
    assert {row["metric"]["outcome"] for row in found} == set(OUTCOMES) - NEVER
    targets = rig.query("targets", state="active")["activeTargets"]
    assert {t["labels"]["job"]: t["health"] for t in targets} == {"guardproxy": "up", "vllm": "up"}


@pytest.mark.slow
@pytest.mark.parametrize("expr", QUERIES)
def test_every_query_of_the_dashboards_returns_figures(rig: Rig, expr: str) -> None:
    """For all policies or, where one is chosen, for one that enforces or one that watches."""
    choices = (".*",) if 'policy=~"$policy"' in expr else ("default", "observe", "flaky")
    rows = [
        row
        for policy in (choices if "$policy" in expr else (".*",))
        for row in rig.query("query", query=filled(expr, policy))["result"]
    ]
    assert rows
    assert any(float(row["value"][1]) >= 0 for row in rows), "not a number"


@pytest.mark.slow
def test_the_variables_of_the_dashboards_have_values(rig: Rig) -> None:
    for dashboard in DASHBOARDS.values():
        for variable in dashboard["templating"]["list"][1:]:
            series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
            values = rig.query(f"label/{label}/values", **{"match[]": filled(series, "default")})
            assert values, variable["name"]


@pytest.mark.slow
def test_prometheus_evaluates_every_rule(rig: Rig) -> None:
    """Recording rules yield series; alerts need not fire, but must be judged without a fault."""
    rules = [rule for group in rig.query("rules")["groups"] for rule in group["rules"]]
    assert rules
    for rule in rules:
        assert rule["health"] == "ok", rule
        if rule["type"] == "recording":
            assert rig.query("query", query=rule["name"])["result"], rule["name"]
    firing = {rule["name"] for rule in rules if rule["type"] == "alerting" and rule["state"] != "inactive"}
    assert "GuardproxyPolicyReloadFailed" in firing
    assert not firing & {"GuardproxyDown", "ModelServerDown"}


def test_dashboards_use_only_what_is_exported() -> None:
    used = {
        name
        for dashboard in DASHBOARDS.values()
        for name in re.findall(r"\bguardproxy_[a-z_]+", json.dumps(dashboard))
    }
    assert used <= exported()


def test_every_metric_is_on_a_dashboard() -> None:
    """What is exported and never looked at might as well not be."""
    text = json.dumps(DASHBOARDS)
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in exported()} - {
        "guardproxy_policy_reloads_total",  # an annotation
        "guardproxy_policy_last_reload_successful",  # an alert
    }
    assert {name for name in families if name not in text} == set()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_complete(name: str) -> None:
    dashboard = DASHBOARDS[name]
    panels = dashboard["panels"]
    assert dashboard["uid"] == f"guardproxy-{name}"
    assert len({p["id"] for p in panels}) == len(panels)
    for panel in panels:
        if panel["type"] != "row":
            assert panel["title"]
            assert len(panel["description"]) > 15, panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap(name: str) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        cells |= own


@pytest.mark.slow
def test_the_picture_is_drawn_from_the_queries(rig: Rig, tmp_path: Path) -> None:
    """As the one in the README: no panel is left without figures, and it stays small."""
    script = [sys.executable, str(ROOT / "deploy/grafana/draw_overview.py"), "--prometheus", rig.prometheus]
    out = tmp_path / "overview.png"
    done = subprocess.run(
        [*script, "--minutes", "1", "--rate", "20s", "--out", str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size < 200_000
    with Image.open(out) as picture:
        assert picture.width == 1400
        assert len(picture.convert("RGB").getcolors(10_000) or ()) > 50
