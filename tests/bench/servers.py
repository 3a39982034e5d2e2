"""Starts and stops who is measured: guardproxy as a user starts it, and its peers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.bodies import MODEL
from tests.bench.tools import WORK, Failed, Missing

START_LIMIT_S = 120.0

POLICIES = {
    # Neither guards nor hardening: what the proxy itself costs.
    "open": "guards: []\n",
    # Every event is parsed, held, judged and released; the detector itself costs next to nothing.
    "gate": (
        "guards:\n  - {name: words, stage: output, detector: patterns, on_hit: block, "
        "patterns: [{id: never-said, text: xylophonist}]}\n"
    ),
}

NGINX = """\
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
{user}
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_max_body_size 64m;
  client_body_buffer_size 16m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 10000000;
  upstream model {{ server 127.0.0.1:{upstream}; keepalive 2048; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://model;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 1200s;
    }}
  }}
}}
"""

HAPROXY = """\
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  option http-keep-alive
  option http-no-delay
  http-reuse always
  timeout connect 5s
  timeout client 1200s
  timeout server 1200s
frontend clients
  bind 127.0.0.1:{port}
  default_backend model
backend model
  server fake 127.0.0.1:{upstream}
"""

LITELLM = """\
model_list:
  - model_name: {model}
    litellm_params: {{model: openai/{model}, api_base: "http://127.0.0.1:{upstream}/v1", api_key: unused}}
general_settings: {{master_key: sk-bench}}
{guards}"""

LITELLM_KEYWORD = """\
guardrails:
  - guardrail_name: words
    litellm_params:
      guardrail: litellm_content_filter
      mode: post_call
      default_on: true
      blocked_words: [{keyword: xylophonist, action: BLOCK}]
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a server is started.

    Attributes:
        ready: Its path that answers 200 when it can serve, and the port that has it.
        key: What a client must show.
    """

    command: list[str]
    port: int
    ready: tuple[int, str]
    key: str | None = None
    environment: Mapping[str, str] | None = None


class Server:
    """A running server."""

    def __init__(self, name: str, plan: Plan, folder: Path) -> None:
        self.name = name
        self.port = plan.port
        self.key = plan.key
        self._plan = plan
        self._log = folder / f"{name}.log"
        environment = {**os.environ, **(plan.environment or {})}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                plan.command, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """The root of its process tree."""
        return self._process.pid

    def wait(self, poll_s: float = 0.05) -> None:
        """Wait until it can serve.

        Raises:
            Failed: It ended, or it takes too long.
        """
        port, path = self._plan.ready
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if _answers(port, path):
                return
            time.sleep(poll_s)
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        self.stop()
        raise Failed(f"{self.name} did not start: {' '.join(last)[:200]}")

    def stop(self) -> None:
        """End it and everything that it started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def free_port() -> int:
    """A port of loopback that nobody uses at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def fakeup(folder: Path, *flags: str) -> Server:
    """The fake model server, running."""
    port = free_port()
    plan = Plan([str(WORK / "fakeup"), "-p", str(port), *flags], port, (port, "/v1/models"))
    server = Server("fakeup" + "".join(flags), plan, folder)
    server.wait(0.01)
    return server


def policies(folder: Path, name: str) -> Path:
    """A directory with one policy of the benchmark's, serving everybody."""
    directory = folder / f"policies-{name}"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.yaml").write_text(f"schema: 1\nname: {name}\n{POLICIES[name]}")
    (directory / "routing.yaml").write_text(f"rules:\n  - match: {{}}\n    policy: {name}\n")
    return directory


def _ours(folder: Path, upstream: int, policy: str | None, workers: int = 1) -> Plan:
    port, admin = free_port(), free_port()
    command = [
        str(Path(sys.executable).with_name("guardproxy")),
        "serve",
        "--upstream",
        f"http://127.0.0.1:{upstream}",
    ]
    command += ["--port", str(port), "--admin-port", str(admin), "--workers", str(workers)]
    command += ["--policies", str(policies(folder, policy))] if policy else []
    return Plan(command, port, (admin, "/readyz"))


def _nginx(folder: Path, upstream: int) -> Plan:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise Missing("nginx is not installed (Debian: apt-get install nginx-light)")
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, upstream=upstream, port=port, user=user))
    return Plan([program, "-p", str(folder), "-c", str(config)], port, (port, "/v1/models"))


def _haproxy(folder: Path, upstream: int) -> Plan:
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        raise Missing("haproxy is not installed (Debian: apt-get install haproxy)")
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(upstream=upstream, port=port))
    return Plan([program, "-db", "-f", str(config)], port, (port, "/v1/models"))


def _own_venv(name: str) -> Path:
    program = WORK / name / "bin" / name
    if not program.exists():
        raise Missing(f"{name} is not installed (make bench-peers)")
    return program


def _litellm(folder: Path, upstream: int, guards: str = "") -> Plan:
    program = _own_venv("litellm")
    port = free_port()
    config = folder / f"litellm-{port}.yaml"
    config.write_text(LITELLM.format(model=MODEL, upstream=upstream, guards=guards))
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False"}
    return Plan(command, port, (port, "/health/liveliness"), "sk-bench", quiet)


def _vllm_router(folder: Path, upstream: int) -> Plan:
    program = _own_venv("vllm-router")
    port, metrics = free_port(), free_port()
    command = [str(program), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--worker-urls", f"http://127.0.0.1:{upstream}", "--policy", "round_robin"]
    command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics), "--log-level", "error"]
    return Plan(command, port, (port, "/v1/models"))


STARTERS: dict[str, Callable[[Path, int], Plan]] = {
    "guardproxy, open": lambda folder, upstream: _ours(folder, upstream, "open"),
    "guardproxy, gate": lambda folder, upstream: _ours(folder, upstream, "gate"),
    "guardproxy, default": lambda folder, upstream: _ours(folder, upstream, None),
    "guardproxy, open, 2 workers": lambda folder, upstream: _ours(folder, upstream, "open", 2),
    "nginx": _nginx,
    "HAProxy": _haproxy,
    "LiteLLM": _litellm,
    "LiteLLM, one keyword": lambda folder, upstream: _litellm(folder, upstream, LITELLM_KEYWORD),
    "vLLM router": _vllm_router,
}


def start(name: str, folder: Path, upstream: int, poll_s: float = 0.05) -> Server:
    """Start a contender and wait until it serves.

    Raises:
        Missing: It is not installed.
        Failed: It did not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(name, STARTERS[name](folder, upstream), folder)
    server.wait(poll_s)
    return server
