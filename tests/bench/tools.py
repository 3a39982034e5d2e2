"""Builds and runs the two load tools: the fake model server and the load client."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
WORK = ROOT / ".bench"

Load = dict[str, float]


class Missing(Exception):
    """Something that the benchmark needs is not installed; says what."""


class Failed(Exception):
    """A measurement that gave no usable figure; says why."""


def build(folder: Path = WORK) -> None:
    """Compile both tools into `folder`, if their sources are newer.

    Raises:
        Missing: There is no C compiler.
    """
    if shutil.which("gcc") is None:
        raise Missing("gcc is not installed (Debian: apt-get install gcc libc6-dev)")
    folder.mkdir(parents=True, exist_ok=True)
    newest = max(source.stat().st_mtime for source in (*HERE.glob("*.c"), *HERE.glob("*.h")))
    for name in ("fakeup", "load"):
        tool = folder / name
        if not tool.exists() or tool.stat().st_mtime < newest:
            source = HERE / f"{name}.c"
            subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", tool, source], check=True)


def load(
    port: int,
    body: Path,
    *,
    connections: int = 1,
    seconds: float = 3.0,
    warm_up: float = 0.0,
    answers: int | None = None,
    events: int | None = None,
    key: str | None = None,
    folder: Path = WORK,
) -> Load:
    """Put load on a port of this machine and return the client's figures.

    Args:
        port: Who is asked.
        body: File with the request's body.
        answers: Ask for so many answers instead of for `seconds`.
        events: What an answer must have, else it is an error.
        key: Sent as a bearer token.
        folder: Where the tools are.

    Raises:
        Failed: An answer was wrong, or there was none.
    """
    command = [str(folder / "load"), "-p", str(port), "-b", str(body), "-c", str(connections)]
    command += ["-n", str(answers)] if answers else ["-d", str(seconds), "-w", str(warm_up)]
    command += ["-e", str(events)] if events is not None else []
    command += ["-H", f"Authorization: Bearer {key}"] if key else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise Failed(f"load ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    figures = json.loads(done.stdout)
    if figures["errors"] or not figures["total"]:
        raise Failed(
            f"{figures['errors']} of {figures['total']} answers: {figures['first_error'] or 'none came'}"
        )
    return {name: float(value) for name, value in figures.items() if name != "first_error"}


@contextmanager
def idle_streams(port: int, body: Path, count: int, folder: Path = WORK) -> Iterator[None]:
    """Hold so many streams open.

    Raises:
        Failed: They did not all begin.
    """
    command = [str(folder / "load"), "-i", "-p", str(port), "-b", str(body), "-c", str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        opened = process.stdout.readline()
        if not opened or json.loads(opened)["open"] != count:
            raise Failed(f"not all of {count} streams began")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
