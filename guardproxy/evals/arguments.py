"""The arguments of `guardproxy eval`. Imports no more than that: `--help` stays quick."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType

from guardproxy.errors import EvalError


def add(whats: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-commands."""
    _run(whats.add_parser("run", help="ask a suite's cases through HTTP, score the answers, write a report"))
    score = whats.add_parser("score", help="let judges read the answers of a run anew; needs no model")
    report = whats.add_parser("report", help="write the report of a run anew")
    for one in (score, report):
        one.add_argument("directory", type=Path, metavar="DIR")
        _reported(one)
    _judged(score)
    score.set_defaults(run=_score)
    report.set_defaults(run=_report)
    judges = whats.add_parser("judges", help="how far judges agree with people and with each other")
    judges.add_argument(
        "file", type=Path, metavar="FILE.jsonl", help="rows with labels, or with responses to judge"
    )
    judges.add_argument("--human", metavar="COLUMN", help="the labels that the others are compared with")
    judges.add_argument("--column", action="append", metavar="COLUMN", help="a judge's labels (default: all)")
    judges.add_argument("--json", action="store_true")
    _judged(judges)
    judges.set_defaults(run=_judges)
    label = whats.add_parser(
        "label", help="label a sample of a run's answers yourself, to measure its judges"
    )
    label.add_argument("directory", type=Path, metavar="DIR")
    label.add_argument("-n", type=int, default=50, metavar="N", help="answers (default: 50)")
    label.set_defaults(run=_label)


def _run(run: argparse.ArgumentParser) -> None:
    run.add_argument("suite", metavar="SUITE", help="a suite's directory, `starter`, or ADAPTER:PATH")
    run.add_argument("--target", required=True, metavar="URL", help="such as http://127.0.0.1:8080")
    run.add_argument("--key", metavar="env:NAME|file:PATH", help="the target's key")
    run.add_argument("--model", metavar="NAME", help="default: the first that the target lists")
    run.add_argument(
        "--arms", default="as-served", metavar="NAME,…",
        help="policies, the baseline first; NAME+black-image and NAME+text-only change the request; "
        "default: as-served, whatever policy the target chooses",
    )  # fmt: skip
    run.add_argument("--repeat", type=_count, default=1, metavar="N", help="ask everything so often")
    run.add_argument("--limit", type=_count, metavar="N", help="only so many items, spread over the suite")
    run.add_argument(
        "--concurrency", type=_count, default=8, metavar="N", help="requests at once (default: 8)"
    )
    run.add_argument(
        "--timeout", type=float, default=120.0, metavar="SECONDS", help="of an answer (default: 120)"
    )
    run.add_argument("--temperature", type=float, default=0.0, metavar="T")
    run.add_argument(
        "--max-tokens", type=_count, default=256, metavar="N", help="of an answer (default: 256)"
    )
    run.add_argument(
        "--out", type=Path, metavar="DIR", help="where the run is kept; the same again resumes it"
    )
    _reported(run)
    _judged(run)
    run.set_defaults(run=_ask)


def _reported(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gate", type=Path, metavar="gates.yaml", help="bounds; exit code 3 if one is broken"
    )
    parser.add_argument("--language", choices=("en", "ja"), default="en", help="of the report")


def _judged(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--judges", metavar="NAME,…",
        help="keywords, classifiers, guard:DETECTOR, chat:URL#MODEL; the first one's labels are the report's",
    )  # fmt: skip
    parser.add_argument("--judge-key", metavar="env:NAME|file:PATH", help="of a chat judge")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {number}")
    return number


def _commands() -> ModuleType:
    try:
        from guardproxy.evals import command
    except ImportError as error:
        if error.name is None or error.name.startswith("guardproxy"):
            raise
        raise EvalError(
            f"guardproxy eval needs the extra guardproxy[evals], which is not installed: {error}"
        ) from None
    return command


def _ask(arguments: argparse.Namespace) -> int:
    return int(_commands().run(arguments))


def _score(arguments: argparse.Namespace) -> int:
    return int(_commands().score(arguments))


def _report(arguments: argparse.Namespace) -> int:
    return int(_commands().report(arguments))


def _judges(arguments: argparse.Namespace) -> int:
    _commands()
    from guardproxy.evals import judging

    judges = _commands().judges_of(arguments.judges, arguments.judge_key) if arguments.judges else ()
    return judging.run(
        arguments.file, arguments.human, arguments.column or (), judges, as_json=arguments.json
    )


def _label(arguments: argparse.Namespace) -> int:
    _commands()
    from guardproxy.evals import labelling

    return labelling.run(arguments.directory, arguments.n)
