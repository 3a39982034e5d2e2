"""Runs the benchmarks: `make bench` (all, written down) and `make bench-quick` (cheap ones, compared only)."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import guardproxy
from tests.bench import report, rows, tools
from tests.bench.bench import Bench
from tests.bench.figures import Report, regressions
from tests.bench.tools import ROOT, WORK, Failed, Missing

DOCS = ROOT / "docs"
Rows = Mapping[rows.Row, tuple[str, ...]]
QUICK_WITHOUT = (rows.HAPROXY, rows.ROUTER, rows.LITELLM, rows.LITELLM_KEYWORD)


def main(argv: Sequence[str] | None = None) -> int:
    """Run, compare with what is recorded, write; 1 if a ratio became worse, 2 if nothing can be run."""
    arguments = _arguments(argv)
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # an exit stops the servers; the default would not
    try:
        tools.build()
    except Missing as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    chosen = _chosen(arguments)
    made = _run(arguments, chosen)
    recorded_in = DOCS / "performance.json"
    recorded = json.loads(recorded_in.read_text()) if recorded_in.exists() else {}
    worse = regressions(made.figures, recorded)
    if worse and not arguments.accept:
        sys.stderr.write("Ratios became worse; measured once more to be sure.\n")
        again = _run(arguments, chosen, {sentence.partition(":")[0] for sentence in worse})
        made.put(again.figures)
        worse = regressions(again.figures, recorded)
    recorded_anew = not (arguments.quick or arguments.only) and (arguments.accept or not worse)
    folder = DOCS if recorded_anew else WORK
    report.write(made, folder)
    page = report.markdown(made)
    sys.stdout.write(page[page.index("## Against") : page.index("## All figures")])
    for sentence in worse:
        sys.stdout.write(f"WORSE: {sentence}\n")
    sys.stdout.write(f"Written to {folder.relative_to(ROOT)}/performance.md\n")
    return 1 if worse and not arguments.accept else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench", description="Measure guardproxy and its peers.")
    parser.add_argument("--quick", action="store_true", help="cheap rows, two peers fewer, only compared")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of one measurement (default: 3, quick: 1)")
    parser.add_argument("--only", metavar="ROWS", help="functions of rows.py, with commas; only compared")
    parser.add_argument("--accept", action="store_true", help="record ratios that are worse, too")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error("--rounds: at least 1")
    return arguments


def _chosen(arguments: argparse.Namespace) -> Rows:
    chosen = rows.QUICK if arguments.quick else rows.FULL
    if arguments.only:
        wanted = arguments.only.split(",")
        chosen = {row: names for row, names in rows.FULL.items() if row.__name__ in wanted}
    return chosen


def _run(arguments: argparse.Namespace, chosen: Rows, wanted: Collection[str] = ()) -> Report:
    """Measure the chosen rows; of them only those that answer a requirement in `wanted`, if there is any."""
    made = Report(
        command="make bench-quick" if arguments.quick else "make bench",
        date=datetime.now(UTC).date().isoformat(),
        rounds=arguments.rounds,
        machine=machine(),
        versions=versions(),
    )
    seconds = arguments.seconds or (1.0 if arguments.quick else 3.0)
    without = QUICK_WITHOUT if arguments.quick else ()
    with Bench(WORK / "run", arguments.rounds, seconds, without) as bench:
        for row, names in chosen.items():
            if wanted and not set(names) & set(wanted):
                continue
            try:
                made.figures += row(bench)
            except (Missing, Failed) as error:
                made.skipped[" and ".join(names)] = str(error)
        made.skipped |= bench.skipped
    for row, names in rows.FULL.items():
        if row not in chosen:
            made.skipped[f"{' and '.join(names)} ({row.__name__})"] = "left out of this run"
    return made


def machine() -> dict[str, str]:
    """What the figures depend on; nothing that names the machine."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    load = os.getloadavg()[0]
    return {
        "CPU": models[0] if models else platform.machine(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}, Python {platform.python_version()}",
        "load average before the run": f"{load:.1f}",
    }


def versions() -> dict[str, str]:
    """Of every contender that is installed."""
    found = {"guardproxy": _first_line(["git", "-C", str(ROOT), "describe", "--always", "--dirty"])}
    found["guardproxy"] = f"{guardproxy.__version__} ({found['guardproxy']})"
    for name, flag in (("nginx", "-v"), ("haproxy", "-v")):
        program = shutil.which(name) or shutil.which(name, path="/usr/sbin")
        found[name] = (
            _first_line([program, flag]).removeprefix("nginx version: ") if program else "not installed"
        )
    for name in ("litellm", "vllm-router"):
        packages = sorted((WORK / name).glob(f"lib/*/site-packages/{name.replace('-', '_')}-*.dist-info"))
        found[name] = packages[0].stem.rpartition("-")[2] if packages else "not installed"
    return found


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return ((done.stdout or done.stderr).splitlines() or ["unknown"])[0].partition(" - ")[0]


if __name__ == "__main__":
    sys.exit(main())
