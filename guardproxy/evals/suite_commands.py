"""`guardproxy eval suite`, `eval new`, `eval export`: what the command line does with suites."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_parsers(whats: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands of this module below `guardproxy eval`."""
    suite = whats.add_parser("suite", help="look at a suite").add_subparsers(required=True, metavar="WHAT")
    check = suite.add_parser("check", help="say what a suite holds and what is wrong with it")
    check.add_argument("suite", metavar="SUITE", help="a path, starter, or ADAPTER:PATH")
    check.set_defaults(run=_check)
    new = whats.add_parser("new", help="make a suite for your own service")
    new.add_argument("out", type=Path, metavar="OUT", help="a new directory")
    new.add_argument(
        "--from", dest="requests", type=Path, metavar="FILE", help="own requests instead of an interview"
    )
    new.add_argument("--name", help="of the suite (with --from; default: the directory's)")
    new.add_argument("--language", metavar="CODE", help="of the interview (en, ja), or of the requests")
    new.set_defaults(run=_new)
    export = whats.add_parser("export", help="write a run's answers and labels for another tool")
    export.add_argument("directory", type=Path, metavar="DIR", help="of the run")
    export.add_argument("--to", choices=("inspect",), required=True, help="inspect: logs of inspect_ai")
    export.add_argument("--out", type=Path, metavar="DIR", help="default: a directory in the run's")
    export.set_defaults(run=_export)


def _check(arguments: argparse.Namespace) -> int:
    from guardproxy.evals.suite import load
    from guardproxy.evals.survey import counts, doubts, faults

    suite = load(arguments.suite)
    for line in counts(suite):
        sys.stdout.write(f"{line}\n")
    for line in doubts(suite):
        sys.stdout.write(f"worth a look: {line}\n")
    wrong = list(faults(suite))
    for line in wrong:
        sys.stdout.write(f"wrong: {line}\n")
    return 1 if wrong else 0


def _new(arguments: argparse.Namespace) -> int:
    from guardproxy.evals import new_suite
    from guardproxy.evals.survey import counts, doubts

    out: Path = arguments.out
    if arguments.requests is not None:
        suite = new_suite.from_requests(
            out, arguments.requests, arguments.name or out.name, arguments.language
        )
    else:
        language = arguments.language if arguments.language in new_suite.QUESTIONS else "en"
        suite = new_suite.from_interview(out, new_suite.interview(input, language))
    for line in counts(suite):
        sys.stdout.write(f"{line}\n")
    for line in doubts(suite):
        sys.stdout.write(f"worth a look: {line}\n")
    sys.stdout.write(
        f"written to {out}: read it through and correct it; what the fields mean: docs/suites.md\n"
    )
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from guardproxy.evals.export import to_inspect
    from guardproxy.evals.rundir import RunDir

    out = arguments.out or arguments.directory / arguments.to
    for path in to_inspect(RunDir.opened(arguments.directory), out):
        sys.stdout.write(f"{path}\n")
    return 0
