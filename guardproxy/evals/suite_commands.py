"""`guardproxy eval suite`, `eval new`, `eval export`: what the command line does with suites."""

from __future__ import annotations

import argparse
import sys


def add_parsers(whats: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands of this module below `guardproxy eval`."""
    suite = whats.add_parser("suite", help="look at a suite").add_subparsers(required=True, metavar="WHAT")
    check = suite.add_parser("check", help="say what a suite holds and what is wrong with it")
    check.add_argument("suite", metavar="SUITE", help="a path, starter, or ADAPTER:PATH")
    check.set_defaults(run=_check)


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
