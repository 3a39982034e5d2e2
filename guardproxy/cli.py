"""The command line. Each command imports what it needs, so that `--help` stays quick."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from guardproxy.errors import GuardproxyError, SettingsError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 found wrong, 2 not usable as given."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except GuardproxyError as error:
        sys.stderr.write(f"guardproxy: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"guardproxy: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("guardproxy", description="Guardrail proxy for vision-language models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve the proxy in front of a model server")
    serve.add_argument("--upstream", metavar="URL", help="the model server, such as http://127.0.0.1:8000")
    serve.add_argument("--vllm", metavar="MODEL", help="start vLLM as a child that only the proxy can reach")
    serve.add_argument("vllm_flags", nargs="*", metavar="-- FLAGS", help="further flags of vLLM")
    serve.add_argument("--policies", metavar="DIR", help="directory of policies (default: the shipped ones)")
    serve.add_argument("--config", metavar="FILE", type=Path, help="settings file (guardproxy.yaml)")
    serve.add_argument("--host")
    serve.add_argument("--port", type=int)
    serve.add_argument("--admin-host")
    serve.add_argument("--admin-port", type=int)
    serve.add_argument("--workers", type=int, metavar="N")
    serve.set_defaults(run=_serve)
    _sandbox_parser(
        commands.add_parser("sandbox", help="serve a small stand-in model, for trying the proxy out")
    )
    policy = commands.add_parser("policy", help="look at policies").add_subparsers(
        required=True, metavar="WHAT"
    )
    for name, text in (("check", "say what is wrong with policies"), ("explain", "say what a policy does")):
        one = policy.add_parser(name, help=text)
        one.add_argument("--policies", metavar="DIR", type=Path, help="default: the shipped ones")
        one.add_argument("--config", metavar="FILE", type=Path, help="settings, for the back ends of guards")
        one.add_argument("name", nargs="?", help="only this policy")
        one.set_defaults(run=_policy, what=name)
    policy.add_parser("schema", help="JSON Schema of a policy file, for editors").set_defaults(run=_schema)
    _doctor_parser(commands.add_parser("doctor", help="what is exposed of a model server and its policies"))
    _looking_parsers(commands)
    _calibrate_parser(commands.add_parser("calibrate", help="set thresholds from your own labels"))
    _audit_parser(commands.add_parser("audit", help="read the audit record"))
    _key_parser(commands.add_parser("key", help="make, list and revoke client keys"))
    _eval_parser(commands.add_parser("eval", help="measure attack success and over-refusal"))
    train = commands.add_parser("train", help="train the embedded classifiers (extra: train)")
    train.add_argument("rows", nargs="+", type=Path, metavar="ROWS")
    train.add_argument("--out", type=Path, required=True, metavar="DIR")
    train.add_argument(
        "--encoder", type=Path, metavar="WHEEL", help="fine-tune the encoder of this wheel too"
    )
    train.add_argument(
        "--student", action="store_true", help="only make the student of the shipped encoder anew"
    )
    train.add_argument(
        "--glosses", action="store_true", help="only make the glossaries; ROWS are EDICT, CC-CEDICT"
    )
    train.set_defaults(run=_train)
    return parser


def _calibrate_parser(calibrate: argparse.ArgumentParser) -> None:
    calibrate.add_argument(
        "labels", type=Path, metavar="LABELS.jsonl", help="lines of {prompt, response, label}"
    )
    calibrate.add_argument("--max-fpr", required=True, metavar="SHARE", help="such as 1%%")
    calibrate.add_argument("--policy", default="default", metavar="NAME")
    calibrate.add_argument("--policies", metavar="DIR", type=Path, help="default: the shipped ones")
    calibrate.add_argument("--guard", metavar="NAME", help="only this one (default: all that score)")
    calibrate.add_argument(
        "--harmful-share", default="0", metavar="SHARE", help="of your traffic (default: 0)"
    )
    calibrate.add_argument("--write", action="store_true", help="change the policy's file")
    calibrate.set_defaults(run=_calibrate)


def _doctor_parser(doctor: argparse.ArgumentParser) -> None:
    doctor.add_argument("--upstream", metavar="URL", help="the model server, such as http://127.0.0.1:8000")
    doctor.add_argument("--key", metavar="env:NAME|file:PATH", help="what the model server asks for")
    doctor.add_argument("--policies", metavar="DIR", help="directory of policies (default: the shipped ones)")
    doctor.add_argument("--config", metavar="FILE", type=Path, help="settings file (guardproxy.yaml)")
    doctor.add_argument("--json", action="store_true", help="one JSON object a line")
    doctor.add_argument("--strict", action="store_true", help="a warning fails it, too")
    doctor.set_defaults(run=_doctor)


def _eval_parser(parser: argparse.ArgumentParser) -> None:
    from guardproxy.evals import arguments, suite_commands

    whats = parser.add_subparsers(required=True, metavar="WHAT")
    arguments.add(whats)
    suite_commands.add_parsers(whats)


def _looking_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    score = commands.add_parser("score", help="what a policy decides for each row of a JSONL file")
    score.add_argument("rows", type=Path, metavar="ROWS.jsonl", help="lines of {id, prompt, response, image}")
    score.add_argument("--stage", choices=("input", "output"), help="only this side (default: both)")
    score.add_argument("--jobs", type=int, metavar="N", help="processes (default: one for each core)")
    score.set_defaults(run=_score)
    look = commands.add_parser("look", help="what a policy decides about a text or a picture, for people")
    look.add_argument("what", nargs="+", metavar="TEXT|FILE", help="a text, a text file, or a picture")
    look.add_argument(
        "--out", type=Path, metavar="PNG", help="draw the picture there, with what was read in it framed"
    )
    look.add_argument("--answer", metavar="TEXT", help="a model's answer to it, judged too")
    look.set_defaults(run=_look)
    for one in (score, look):
        one.add_argument("--policy", default="default", metavar="NAME")
        one.add_argument("--policies", metavar="DIR", type=Path, help="default: the shipped ones")
        one.add_argument("--config", metavar="FILE", type=Path, help="settings, for the back ends of guards")


def _key_parser(key: argparse.ArgumentParser) -> None:
    whats = key.add_subparsers(required=True, metavar="WHAT")
    new = whats.add_parser("new", help="make a key and print it, this once")
    new.add_argument("--name", required=True, help="what it is called in metrics, records and routing")
    new.add_argument("--right", action="append", default=[], metavar="RIGHT", help="may_choose_policy")
    new.add_argument("--requests-per-minute", type=int, metavar="N")
    new.add_argument("--concurrent", type=int, metavar="N", help="exchanges under way")
    new.add_argument("--body-bytes-per-minute", type=int, metavar="N")
    new.set_defaults(run=_key_new)
    whats.add_parser("list", help="name, rights and limits of each").set_defaults(run=_key_list)
    revoke = whats.add_parser("revoke", help="end a key; a running proxy knows within a second")
    revoke.add_argument("--name", required=True)
    revoke.set_defaults(run=_key_revoke)
    for one in whats.choices.values():
        one.add_argument("--keys", type=Path, required=True, metavar="FILE", help="the keys file")


def _audit_parser(audit: argparse.ArgumentParser) -> None:
    whats = audit.add_subparsers(required=True, metavar="WHAT")
    verify = whats.add_parser("verify", help="say whether the record is whole")
    verify.add_argument("--key", metavar="env:NAME|file:PATH", help="if the chain was made with one")
    verify.add_argument("--head", metavar="HASH", help="a head kept elsewhere, which the chain must hold")
    verify.set_defaults(run=_audit_verify)
    tail = whats.add_parser("tail", help="print the last records")
    tail.add_argument("-n", type=int, default=20, metavar="N")
    tail.add_argument("-f", "--follow", action="store_true", help="and those that come")
    tail.add_argument("--json", action="store_true", help="whole records, a line each")
    tail.set_defaults(run=_audit_tail)
    for one in whats.choices.values():
        one.add_argument("directory", type=Path, metavar="DIR")


def _sandbox_parser(sandbox: argparse.ArgumentParser) -> None:
    sandbox.add_argument("--host", default="127.0.0.1")
    sandbox.add_argument("--port", type=int, default=8000)
    sandbox.set_defaults(run=_sandbox)


def _serve(arguments: argparse.Namespace) -> int:
    from guardproxy import settings
    from guardproxy.supervise import run

    flags: dict[str, object] = {
        key: value
        for key in ("policies", "host", "port", "admin_host", "admin_port", "workers")
        if (value := getattr(arguments, key)) is not None
    }
    if arguments.upstream is not None:
        flags["upstream"] = {"url": arguments.upstream}
    if arguments.vllm is not None:
        flags["vllm"] = {"model": arguments.vllm, "flags": arguments.vllm_flags}
    elif arguments.vllm_flags:
        raise SettingsError(
            f"serve: expected --vllm MODEL before vLLM's flags, got {arguments.vllm_flags[0]}"
        )
    return run(settings.load(arguments.config, flags))


def _sandbox(arguments: argparse.Namespace) -> int:
    from guardproxy.commands import sandbox

    return sandbox.run(arguments.host, arguments.port)


def _doctor(arguments: argparse.Namespace) -> int:
    from guardproxy import settings
    from guardproxy.commands import doctor

    upstream = {"url": arguments.upstream, "key": arguments.key}
    flags: dict[str, object] = {"upstream": {k: v for k, v in upstream.items() if v is not None}}
    if arguments.policies is not None:
        flags["policies"] = arguments.policies
    return doctor.run(settings.load(arguments.config, flags), as_json=arguments.json, strict=arguments.strict)


def _policy(arguments: argparse.Namespace) -> int:
    from guardproxy.commands import policy

    return policy.run(arguments.what, arguments.policies, arguments.name, arguments.config)


def _schema(arguments: argparse.Namespace) -> int:
    from guardproxy.commands import policy

    return policy.schema()


def _score(arguments: argparse.Namespace) -> int:
    from guardproxy.commands import score

    stages = score.stages_of(arguments.stage)
    job = score.Job(arguments.rows, arguments.policy, arguments.policies, stages, arguments.config)
    return score.run(job, arguments.jobs)


def _look(arguments: argparse.Namespace) -> int:
    from guardproxy.commands import look

    return look.run(
        arguments.what,
        arguments.answer,
        arguments.policy,
        arguments.policies,
        arguments.config,
        arguments.out,
    )


def _key_new(arguments: argparse.Namespace) -> int:
    from guardproxy.commands import key

    limits = {
        name: getattr(arguments, name)
        for name in ("requests_per_minute", "concurrent", "body_bytes_per_minute")
    }
    return key.new(arguments.keys, arguments.name, arguments.right, limits)


def _key_list(arguments: argparse.Namespace) -> int:
    from guardproxy.commands import key

    return key.list_all(arguments.keys)


def _key_revoke(arguments: argparse.Namespace) -> int:
    from guardproxy.commands import key

    return key.revoke(arguments.keys, arguments.name)


def _audit_verify(arguments: argparse.Namespace) -> int:
    from guardproxy.commands import audit

    return audit.verify(arguments.directory, arguments.key, arguments.head)


def _audit_tail(arguments: argparse.Namespace) -> int:
    from guardproxy.commands import audit

    return audit.tail(arguments.directory, arguments.n, follow=arguments.follow, as_json=arguments.json)


def _calibrate(arguments: argparse.Namespace) -> int:
    from guardproxy.commands import calibrate

    names = ("labels", "policy", "policies", "guard", "write")
    return calibrate.run(
        calibrate.Job(
            **{name: getattr(arguments, name) for name in names},
            max_fpr=calibrate.share(arguments.max_fpr),
            harmful_share=calibrate.share(arguments.harmful_share, least=0.0),
        )
    )


def _train(arguments: argparse.Namespace) -> int:
    from guardproxy.training import command, glossary

    if arguments.glosses:
        return glossary.run(arguments.rows, arguments.out)
    if arguments.student:
        return command.run_student(arguments.rows, arguments.out)
    return command.run(arguments.rows, arguments.out, arguments.encoder)
