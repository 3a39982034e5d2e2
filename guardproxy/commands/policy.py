"""`guardproxy policy check | explain | schema`: what policies say, and whether they can."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from guardproxy import settings
from guardproxy.app import resources_of
from guardproxy.core.policy import INPUT_KINDS, OUTPUT_KINDS, GateMode, Guard, Mode, Policy
from guardproxy.core.verdict import Action, Stage
from guardproxy.errors import PolicyError
from guardproxy.inforce import load_policies
from guardproxy.policyfile import json_schema
from guardproxy.policystore import shipped_dir
from guardproxy.telemetry.metrics import Metrics
from guardproxy.yamldoc import suggest

_VERBS = {Action.BLOCK: "blocks", Action.REDACT: "redacts", Action.REPAIR: "repairs"}


def run(what: str, directory: Path | None, name: str | None, config: Path | None = None) -> int:
    """Check or explain a directory of policies; returns the exit code.

    With settings, the back ends that guards name must be there too.

    Raises:
        PolicyError: Something is wrong; the message names file, line and field.
        SettingsError: The settings are.
    """
    resources = resources_of(settings.load(config, {}), Metrics()) if config else None
    revision = load_policies(directory or shipped_dir(), resources)
    policies = {n: loaded.policy for n, loaded in revision.policies.items()}
    if name is not None and name not in policies:
        raise PolicyError(f"no policy named {name!r}{suggest(name, policies)}")
    for policy in [policies[name]] if name else policies.values():
        lines = explain(policy) if what == "explain" else [f"{policy.name} {policy.version}: ok"]
        sys.stdout.write("\n".join(lines) + "\n")
    return 0


def schema() -> int:
    """Print the JSON Schema of a policy file."""
    sys.stdout.write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
    return 0


def explain(policy: Policy) -> Iterator[str]:
    """What a policy does, in sentences, and what it lets by unlooked at."""
    yield f"{policy.name} (version {policy.version})"
    if policy.mode is Mode.MONITOR:
        yield "  watches only: nothing is delayed, blocked, redacted or hardened"
    gates = {
        GateMode.HOLD: "a stream is held back until it is judged, piece by piece",
        GateMode.FULL: "an answer leaves only once it is judged as a whole",
        GateMode.ASYNC: "a stream leaves at once and is cut late: what came before the cut has leaked",
    }
    yield f"  gate: {gates[policy.gate]}"
    for text in policy.hardening:
        yield f"  hardening: {text.use} in slot {text.slot.value}, language {text.language}"
    for guard in policy.guards:
        yield f"  {guard.stage.value}: {_sentence(guard)}"
    for one in policy.combine:
        yield f"  together: {one.name} {_VERBS[one.on_hit]} when {one.at_least} of {', '.join(one.of)} hit"
    for stage, kinds in ((Stage.INPUT, INPUT_KINDS), (Stage.OUTPUT, OUTPUT_KINDS)):
        unlooked = [k for k in kinds if k not in policy.looked_at(stage) and k != "image_text"]
        if unlooked:
            fate = (
                "refused"
                if policy.unjudged_refused and stage is Stage.OUTPUT
                else "passed and named as unjudged"
            )
            yield f"  {stage.value}: no guard looks at {', '.join(unlooked)}: {fate}"


def _sentence(guard: Guard) -> str:
    where = ", ".join(guard.looks_at)
    if guard.mode is Mode.OFF:
        return f"{guard.name}: off"
    if not guard.acts:
        return f"{guard.name}: {guard.detector} on {where}, recorded from {guard.threshold:g} on"
    failure = "a failure blocks" if guard.fail_mode.value == "closed" else "a failure passes"
    return f"{guard.name}: {guard.detector} on {where} {_VERBS[guard.on_hit]} from {guard.threshold:g} on; {failure}"
