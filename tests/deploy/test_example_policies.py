"""The example policies load, and do what they say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from guardproxy.core.policy import Policy
from guardproxy.core.verdict import Action, Stage
from guardproxy.inforce import load_policies

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples" / "policies"


def loaded(folder: Path, name: str) -> Policy:
    shutil.copy(EXAMPLES / f"{name}.yaml", folder)
    (folder / "routing.yaml").write_text(f"rules: [{{match: {{}}, policy: {name}}}]\n")
    return load_policies(folder).policies[name].policy


@pytest.mark.parametrize("name", [file.stem for file in sorted(EXAMPLES.glob("*.yaml"))])
def test_an_example_loads(tmp_path: Path, name: str) -> None:
    assert loaded(tmp_path, name).name == name


def test_the_privacy_example_redacts_on_both_sides(tmp_path: Path) -> None:
    policy = loaded(tmp_path, "privacy")
    for stage in Stage:
        acting = policy.acting(stage)
        assert {guard.detector for guard in acting} == {"pii", "secrets"}
        assert {guard.on_hit for guard in acting} == {Action.REDACT}
