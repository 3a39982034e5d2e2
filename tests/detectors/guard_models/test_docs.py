"""What the page and the examples say can be loaded, and the page leaves no served guard out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from guardproxy.app import resources_of
from guardproxy.core.policy import OUTPUT_KINDS
from guardproxy.detectors import registry
from guardproxy.detectors.backends import BackendPlan
from guardproxy.detectors.guard_models import categories
from guardproxy.inforce import InForce, load_policies
from guardproxy.settings import Settings, load
from guardproxy.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/guards.md").read_text("utf-8")
EXAMPLE = ROOT / "deploy/examples/served-guards"


def test_the_example_loads() -> None:
    settings = load(EXAMPLE / "guardproxy.yaml", {}, {})
    revision = load_policies(EXAMPLE / "policies", resources_of(settings, Metrics()))
    assert set(revision.policies) == {"served", "japanese"}
    assert InForce(revision).needed_backends == frozenset(), "they only watch"


def test_every_served_detector_stands_in_the_table() -> None:
    served = [name for name, entry in registry.DETECTORS.items() if "backend" in entry.parameters]
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert set(served) <= set(rows)
    assert len(served) == 11


def test_every_category_and_setting_is_named() -> None:
    for word in (*categories.CATEGORIES, *BackendPlan.__dataclass_fields__):
        assert f"`{word}`" in PAGE or f"{word}:" in PAGE, word


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_every_yaml_of_the_page_is_what_it_says(block: str, tmp_path: Path) -> None:
    body = yaml.safe_load(block)
    if isinstance(body, dict) and "backends" in body:
        Settings.model_validate(body)
    elif "litellm_params" not in block:
        guards = body["guards"] if isinstance(body, dict) else body
        (tmp_path / "routing.yaml").write_text("rules: [{match: {}, policy: p}]\n")
        (tmp_path / "p.yaml").write_text(
            yaml.safe_dump({"schema": 1, "name": "p", "guards": guards}), "utf-8"
        )
        (guard,) = load_policies(tmp_path).policies["p"].policy.guards
        assert guard.looks_at
        assert (guard.looks_at[0] in OUTPUT_KINDS) is (guard.stage.value == "output")
