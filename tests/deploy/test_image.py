"""The image: linted, and its steps done in a plain directory, since no engine is needed for that."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.deploy.dockerfile import Image, context, instructions
from tests.deploy.tools import missing
from tests.test_reload import free_port, wait

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
READ_ONLY = (
    'mount --bind "$1" "$1" && mount -o remount,bind,ro / && mount -t tmpfs tmpfs /tmp && shift'
    ' && exec setpriv --reuid "$0" --regid "$0" --clear-groups --no-new-privs "$@"'
)
"""A root that nobody can write, a /tmp and one volume of its own, no privileges: what compose asks of an engine."""


def can_unshare() -> bool:
    """Whether processes here can be given a read-only root: as root, where mounting is allowed."""
    if os.geteuid() != 0:
        return False
    tried = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", READ_ONLY, "65534", "/var", "true"], capture_output=True
    )
    return tried.returncode == 0


def pythons() -> Iterator[str]:
    """Interpreters that the project supports and that another user may run."""
    for name in (os.path.realpath(sys.executable), "python3.12", "python3.13", "python3.11", "python3"):
        path = shutil.which(name, path=f"/usr/local/bin:/usr/bin:{os.environ['PATH']}")
        if path is None:
            continue
        tried = ["-c", "import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))"]
        other = {"user": 10001, "group": 10001, "extra_groups": ()} if os.geteuid() == 0 else {}
        try:
            if subprocess.run([path, *tried], cwd="/", capture_output=True, **other).returncode == 0:
                yield path
        except PermissionError:
            continue


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    python = next(pythons(), None)
    if python is None:
        missing("no Python 3.11 to 3.13 with venv that another user may run")
    # Not below /tmp, which the image's processes get anew, and open to another user.
    with tempfile.TemporaryDirectory(prefix="guardproxy-image-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        root, sent = Path(folder) / "root", Path(folder) / "context"
        context(ROOT, sent)
        built = Image(root, sent, python)
        built.build(DOCKERFILE)
        shutil.rmtree(root / "build")  # the last stage has no other
        shutil.rmtree(sent)
        yield built


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_last_stage_runs_nothing_and_gives_up_root() -> None:
    """Its layers are the environment and the policies: no tools, no caches, no setuid left by a package."""
    text = instructions(DOCKERFILE)
    last = text[max(i for i, (word, _) in enumerate(text) if word == "FROM") :]
    assert "RUN" not in [word for word, _ in last]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", dict(last)["USER"]), "Kubernetes' runAsNonRoot needs a number"


def test_the_builder_is_sent_nothing_else(tmp_path: Path) -> None:
    context(ROOT, tmp_path)
    copied = {
        source
        for word, rest in instructions(DOCKERFILE)
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == {str(p) for p in sent(tmp_path)}


def sent(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        yield from (
            (Path("deploy") / p.name for p in path.iterdir())
            if path.name == "deploy"
            else [path.relative_to(folder)]
        )


@pytest.mark.slow
def test_the_environment_holds_the_locked_packages_and_no_tools(image: Image) -> None:
    installed = {p.name.split("-")[0].lower() for p in image.root.rglob("*.dist-info")}
    locked = set(re.findall(r"^([a-z0-9_.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert installed <= {name.replace("-", "_") for name in locked} | {"guardproxy"}
    assert not installed & {"pip", "setuptools", "wheel", "hatchling"}
    assert sorted(p.name for p in (image.root / "etc/guardproxy/policies").iterdir()) == sorted(
        p.name for p in (ROOT / "policies").iterdir()
    )
    done = run(image, "--help")
    assert "serve" in done
    assert "default" in run(
        image, "policy", "check", "--policies", str(image.root / "etc/guardproxy/policies")
    )


def run(image: Image, *arguments: str) -> str:
    command = [str(image.root / "opt/guardproxy/bin" / image.entrypoint[0]), *arguments]
    done = subprocess.run(command, env=image.environment(), cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_it_serves_unprivileged_on_a_read_only_root(image: Image, workers: int) -> None:
    """As uid 10001 with nothing to write but an empty /tmp; the health command of the image says so."""
    before = tree(image.root)
    with started(image, workers) as (api, process):
        assert os.stat(f"/proc/{process.pid}").st_uid == (10001 if os.geteuid() == 0 else os.geteuid())
        body = {"model": "guardproxy-sandbox", "messages": [{"role": "user", "content": "/leak"}]}
        answer = httpx.post(f"{api}/v1/chat/completions", json=body, timeout=20)
        assert answer.json()["choices"][0]["finish_reason"] == "content_filter"
        assert healthy(image)
        assert "default" in run(image, "audit", "tail", str(image.root / "var/lib/guardproxy/audit"))
    assert not healthy(image)
    assert tree(image.root) == before


@pytest.mark.slow
def test_as_built_it_refuses_to_serve_without_client_keys(image: Image) -> None:
    """It would listen on every address of its container."""
    command = [str(image.root / "opt/guardproxy/bin" / image.entrypoint[0]), *image.command]
    env = image.environment() | {"GUARDPROXY_UPSTREAM": "http://127.0.0.1:1", "GUARDPROXY_HOST": "0.0.0.0"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "no client keys" in done.stderr


@pytest.mark.slow
def test_keys_made_with_the_image_open_it(image: Image, tmp_path: Path) -> None:
    keys = str(tmp_path / "keys.json")
    key = run(image, "key", "new", "--keys", keys, "--name", "pilot").strip()
    moved = image.root.parent / "keys.json"
    shutil.copy(keys, moved)
    if os.geteuid() == 0:
        shutil.chown(moved, 10001)
    image.env["GUARDPROXY_KEYS"] = str(moved)
    with started(image, 1) as (api, _):
        assert httpx.get(f"{api}/v1/models", timeout=10).status_code == 401
        headers = {"authorization": f"Bearer {key}"}
        assert httpx.get(f"{api}/v1/models", headers=headers, timeout=10).status_code == 200
    del image.env["GUARDPROXY_KEYS"]


def healthy(image: Image) -> bool:
    command = [str(image.root / "opt/guardproxy/bin" / image.health[0]), *image.health[1:]]
    return subprocess.run(command, env=image.environment(), capture_output=True).returncode == 0


def tree(root: Path) -> set[tuple[str, int]]:
    """Everything but the volume."""
    return {(str(p), p.lstat().st_mtime_ns) for p in root.rglob("*") if "/var/lib/guardproxy/" not in str(p)}


@contextmanager
def started(image: Image, workers: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    ports = [str(free_port()) for _ in range(3)]
    sandbox = subprocess.Popen(
        [sys.executable, "-m", "guardproxy", "sandbox", "--port", ports[2]], stderr=subprocess.DEVNULL
    )
    # Loopback here; in a container its own addresses, and then keys are needed.
    image.env |= {
        "GUARDPROXY_HOST": "127.0.0.1", "GUARDPROXY_ADMIN_HOST": "127.0.0.1", "GUARDPROXY_PORT": ports[0],
        "GUARDPROXY_ADMIN_PORT": ports[1], "GUARDPROXY_WORKERS": str(workers),
        "GUARDPROXY_UPSTREAM": f"http://127.0.0.1:{ports[2]}", "GUARDPROXY_AUDIT__DIRECTORY": "/var/lib/guardproxy/audit",
    }  # fmt: skip
    command = [str(image.root / "opt/guardproxy/bin" / image.entrypoint[0]), *image.command]
    volume = image.root / "var/lib/guardproxy/audit"
    uid = image.user.split(":")[0]
    if can_unshare():
        command = ["unshare", "--mount", "sh", "-euc", READ_ONLY, uid, str(volume), *command]
    elif os.geteuid() == 0:  # in a container that may not mount: another user still cannot write the tree
        command = ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--no-new-privs", *command]
    wait(f"http://127.0.0.1:{ports[2]}/health")
    process = subprocess.Popen(command, env=image.environment(), cwd="/")
    try:
        wait(f"http://127.0.0.1:{ports[1]}/readyz", 30)
        yield f"http://127.0.0.1:{ports[0]}", process
    finally:
        process.terminate()
        process.wait(40)
        sandbox.terminate()
        sandbox.wait(20)
        time.sleep(0.1)
