"""What docs/operations.md tells people to type."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.deploy.test_rules import ALERTS
from tests.deploy.tools import tool

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs/operations.md").read_text("utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)


def sh(script: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_judged_as_it_says() -> None:
    tool("promtool")
    assert sh(next(b for b in BLOCKS if "promtool" in b)).count("SUCCESS") == 4


def test_the_table_of_alerts_is_that_of_the_rules() -> None:
    rows = re.findall(r"^\| (Guardproxy\w+|ModelServer\w+) \| (\w+) \|", TEXT, re.MULTILINE)
    assert dict(rows) == {name: rule["labels"]["severity"] for name, rule in ALERTS.items()}


def test_the_commands_for_compose_name_what_is_there(tmp_path: Path) -> None:
    """There is no engine here to run them; the command inside the container is run without it."""
    block = next(b for b in BLOCKS if "docker compose" in b)
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    for named in re.findall(r"docker compose (?:build|run --rm(?: --no-deps -v \S+)?) (\S+)", block):
        assert named in services
    assert (ROOT / ".env.example").is_file()
    head = (ROOT / "docker-compose.yml").read_text("utf-8").partition("services:")[0]
    for line in block.splitlines()[1:6]:
        assert line.split("  #")[0] in head, "the file's own head says the same"
    command = re.findall(r"guardproxy (key new .*)", block)[0].replace("/keys/", f"{tmp_path}/")
    assert sh(f"{sys.executable} -m guardproxy {command}").startswith("gp-")


def test_the_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((\.\./[^)#]+)", TEXT):
        assert (ROOT / "docs" / link).exists(), link
