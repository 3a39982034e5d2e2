"""Reads a Dockerfile and does what it says in a plain directory: as far as that goes without an engine.

`RUN` is executed with the image's paths moved below a root; `COPY` copies from a context that holds only what
`.dockerignore` lets through. The base image is not there: the steps use a Python of this machine.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

MOVED = ("/opt/guardproxy", "/etc/guardproxy", "/var/lib/guardproxy", "/build")
"""The folders of the image that the steps write."""


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction with its arguments, comments gone and continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = [line.split(maxsplit=1) for line in joined.splitlines()]
    return [(word.upper(), " ".join(rest.split())) for word, rest in found]


def context(source: Path, target: Path) -> None:
    """Copy what `.dockerignore` lets through: it names nothing but exceptions to `*`."""
    rules = [
        r for r in (source / ".dockerignore").read_text("utf-8").splitlines() if r and not r.startswith("#")
    ]
    assert rules[0] == "*"
    for name in (rule[1:] for rule in rules if rule.startswith("!")):
        there = target / name
        there.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, there, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(source / name, there)


@dataclass
class Image:
    """What the steps have left behind.

    Attributes:
        root: Stands for `/` of the image.
        context: What the builder would be sent.
        python: Stands for the base image's.
    """

    root: Path
    context: Path
    python: str
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)

    def build(self, text: str) -> None:
        """Do every instruction."""
        for word, rest in instructions(text):
            getattr(self, f"_{word.lower()}")(rest)

    def moved(self, text: str) -> str:
        """A text with the image's paths below the root."""
        for path in MOVED:
            for before in (" ", "=", ":", "'", '"'):
                text = text.replace(f"{before}{path}", f"{before}{self.root}{path}")
            if text.startswith(path):
                text = f"{self.root}{text}"
        return text

    def environment(self) -> dict[str, str]:
        """Of a process in the image; nothing of ours but the way to packages."""
        kept = {
            k: v for k, v in os.environ.items() if k.lower().startswith(("pip_", "ssl_", "http", "no_proxy"))
        }
        path = "/usr/local/bin:/usr/bin:/bin"
        ours = {k: self.moved(v).replace("$PATH", path) for k, v in self.env.items()}
        return {"PATH": path, "HOME": "/tmp"} | kept | ours

    def _at(self, path: str) -> Path:
        return self.root / os.path.join(self.workdir, path).lstrip("/")

    def _from(self, _: str) -> None:
        """A stage begins with nothing but the base; what it copies from an earlier one lies where it lay."""
        self.env, self.workdir, self.user = {}, "/", "0"

    def _arg(self, _: str) -> None:
        pass

    def _label(self, rest: str) -> None:
        self.labels |= dict(item.split("=", 1) for item in shlex.split(rest))

    def _env(self, rest: str) -> None:
        self.env |= dict(item.split("=", 1) for item in shlex.split(rest))

    def _workdir(self, rest: str) -> None:
        self.workdir = rest
        self._at("").mkdir(parents=True, exist_ok=True)

    def _user(self, rest: str) -> None:
        self.user = rest

    def _expose(self, rest: str) -> None:
        self.ports += rest.split()

    def _entrypoint(self, rest: str) -> None:
        self.entrypoint = json.loads(rest)

    def _cmd(self, rest: str) -> None:
        self.command = json.loads(rest)

    def _healthcheck(self, rest: str) -> None:
        self.health = json.loads(rest[rest.index("CMD") + 3 :])

    def _copy(self, rest: str) -> None:
        flags = [word for word in rest.split() if word.startswith("--")]
        *sources, target = [word for word in rest.split() if not word.startswith("--")]
        if any(flag.startswith("--from=") for flag in flags):
            self._copy_from_stage(sources[0], target, [f for f in flags if f.startswith("--chown=")])
            return
        for source in sources:
            here, there = self.context / source, self._at(target)
            if here.is_dir():
                shutil.copytree(here, there, dirs_exist_ok=True)
            else:
                there.mkdir(parents=True, exist_ok=True)
                shutil.copy(here, there)

    def _copy_from_stage(self, source: str, target: str, owners: list[str]) -> None:
        if "bin" in [p.name for p in self._at(source).iterdir()]:
            assert source == target, "a virtual environment works only where it was made"
            return
        shutil.copytree(self._at(source), self._at(target))
        if os.geteuid() == 0:
            for path in (self._at(target), *self._at(target).rglob("*")):
                os.chown(path, *(int(i) for i in owners[0].removeprefix("--chown=").split(":")))

    def _run(self, rest: str) -> None:
        command = self.moved(" " + rest).replace(" python ", f" {self.python} ")
        subprocess.run(["sh", "-euc", command], cwd=self._at(""), env=self.environment(), check=True)
