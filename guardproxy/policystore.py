"""The policies in force: loaded, versioned, swapped at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

from guardproxy import policyfile
from guardproxy.core.policy import GateMode, Guard, Mode, Policy
from guardproxy.core.verdict import Stage
from guardproxy.errors import PolicyError

ROUTING = "routing.yaml"


BuildDetector = Callable[[str, Mapping[str, object]], object]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy with its detectors, by guard name."""

    policy: Policy
    detectors: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Revision:
    """Everything that was read at one time; an exchange keeps the one it started with.

    Attributes:
        digest: Hash over all policies' versions and the routing.
    """

    policies: Mapping[str, Loaded]
    rules: tuple[policyfile.Rule, ...]
    digest: str

    def route(self, model: str, key: str) -> Loaded:
        """The policy that serves a model to a client key; the first matching rule decides."""
        for keys, models, name in self.rules:
            if fnmatchcase(key, keys) and fnmatchcase(model, models):
                return self.policies[name]
        raise AssertionError("the last rule matches everybody")


def shipped_dir() -> Path:
    """The policies that come with the package."""
    inside = Path(__file__).parent / "shipped_policies"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "policies"


def fingerprint(directory: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes whenever a policy file does: names, times in ns, sizes."""
    found = []
    for path in sorted(directory.glob("*.yaml")):
        try:
            stat = path.stat()
        except OSError:
            continue
        found.append((path.name, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def load(directory: Path, known: Mapping[str, policyfile.Suits], build: BuildDetector) -> Revision:
    """Read a directory of policies and its `routing.yaml`, and build every detector.

    Raises:
        PolicyError: Anything is wrong; the message names file, line and field.
    """
    if not directory.is_dir():
        raise PolicyError(f"{directory}: no such directory of policies")
    policies: dict[str, Loaded] = {}
    for path in sorted(directory.glob("*.yaml")):
        if path.name == ROUTING:
            continue
        loaded = _with_detectors(policyfile.parse_policy(_read(path), path, known), path, build)
        name = loaded.policy.name
        if name in policies:
            raise PolicyError(f"{path}:1: name: another file has a policy named {name!r} already")
        policies[name] = loaded
    routing = directory / ROUTING
    if not routing.is_file():
        raise PolicyError(f"{routing}: missing: it says which policy serves whom")
    rules = policyfile.parse_routing(_read(routing), routing, policies)
    spelled = repr((sorted((n, p.policy.version) for n, p in policies.items()), rules))
    return Revision(policies, rules, sha256(spelled.encode()).hexdigest()[:12])


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}:1: cannot be read: {error}") from None


def _with_detectors(policy: Policy, path: Path, build: BuildDetector) -> Loaded:
    detectors: dict[str, object] = {}
    spelled = [policy.version]
    for index, guard in enumerate(policy.guards):
        if guard.mode is Mode.OFF:
            continue
        try:
            detector = build(guard.detector, guard.parameters)
            _refuse_unbounded(policy, guard, detector)
            _refuse_unsuited(guard, detector)
        except PolicyError as error:
            raise PolicyError(f"{path}: guards[{index}] ({guard.name}): {error}") from None
        detectors[guard.name] = detector
        spelled.append(f"{guard.name}={getattr(detector, 'version', '')}")
    version = sha256("\n".join(spelled).encode()).hexdigest()[:12]
    return Loaded(replace(policy, version=version), detectors)


MAX_HELD = 4096
"""Longest tail of a stream that may be held back for one pattern, in characters."""


def _refuse_unbounded(policy: Policy, guard: Guard, detector: object) -> None:
    longest = getattr(detector, "longest", 0)
    streamed = guard.stage is Stage.OUTPUT and policy.is_acting(guard) and policy.gate is GateMode.HOLD
    if streamed and longest > MAX_HELD:
        raise PolicyError(
            "a pattern has no bound on its length (or one over "
            f"{MAX_HELD} characters), so a stream cannot be held for it: bound it ({{1,64}} for +), or set gate: full"
        )


def _refuse_unsuited(guard: Guard, detector: object) -> None:
    """For a detector that is made of others: what it suits is known only once it is built."""
    stages = getattr(detector, "stages", None)
    if stages is not None and guard.stage not in stages:
        raise PolicyError(f"of: not every detector of this {guard.detector} suits stage {guard.stage.value}")
