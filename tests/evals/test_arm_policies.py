"""The five arms are pieces of the default policy: what they measure is what is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

POLICIES = Path(__file__).parent.parent.parent / "policies"
ARMS = ("arm-none", "arm-hardening", "arm-input", "arm-output", "arm-all")


def read(name: str) -> dict[str, Any]:
    found = yaml.safe_load((POLICIES / f"{name}.yaml").read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def guards(policy: dict[str, Any], stage: str) -> list[Any]:
    return [g for g in policy.get("guards", []) if g["stage"] == stage]


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_has_the_pieces_of_default_that_its_name_says(name: str) -> None:
    """Whoever changes policies/default.yaml changes the arms too."""
    arm, default = read(name), read("default")
    wanted = name.removeprefix("arm-")
    assert arm["name"] == name
    assert guards(arm, "input") == (guards(default, "input") if wanted in ("input", "all") else [])
    assert guards(arm, "output") == (guards(default, "output") if wanted in ("output", "all") else [])
    assert arm.get("hardening", []) == (default["hardening"] if wanted in ("hardening", "all") else [])
    for key in {*arm, *default} - {"name", "guards", "hardening"}:
        assert arm.get(key) == default.get(key), key
