"""The policies in force, each with its detectors and its plan: read, swapped at once, kept when new ones are wrong."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import cast

from guardproxy import policystore
from guardproxy.core.policy import FailMode, Mode
from guardproxy.detectors import registry
from guardproxy.detectors.base import Detector, Resources
from guardproxy.detectors.observe import IMAGE_TEXT
from guardproxy.errors import PolicyError
from guardproxy.images import reader
from guardproxy.keys import Client
from guardproxy.outward import Plan
from guardproxy.telemetry.metrics import Metrics

log = logging.getLogger("guardproxy")


def load_policies(directory: Path, resources: Resources | None = None) -> policystore.Revision:
    """Read a directory of policies with the detectors that are installed.

    Raises:
        PolicyError: One is wrong, or needs what is not installed.
    """
    build = partial(registry.build, resources=resources or Resources())
    revision = policystore.load(directory, registry.DETECTORS, build)
    for name, loaded in revision.policies.items():
        for guard in loaded.policy.guards:
            if IMAGE_TEXT in guard.looks_at and guard.mode is not Mode.OFF and not reader.is_installed():
                raise PolicyError(
                    f"{directory}: policy {name}: guards ({guard.name}): looks_at: {IMAGE_TEXT} needs the extra "
                    f"guardproxy[{reader.EXTRA}], which is not installed"
                )
    return revision


class InForce:
    """A revision with the plan of each of its policies."""

    def __init__(self, revision: policystore.Revision) -> None:
        self.revision = revision
        self._routes: dict[tuple[str, str], Plan] = {}
        self.plans = {
            name: Plan.of(loaded.policy, cast("Mapping[str, Detector]", loaded.detectors))
            for name, loaded in revision.policies.items()
        }

    def plan_for(self, model: str, client: Client) -> Plan:
        """The plan of the policy that serves a model to a client."""
        plan = self._routes.get((model, client.name))
        if plan is None:
            plan = self.plans[self.revision.route(model, client.name).policy.name]
            # Names of models and keys are bounded: unknown ones never get here.
            self._routes[model, client.name] = plan
        return plan

    @property
    def needed_backends(self) -> frozenset[str]:
        """Servers of guard models without which an exchange is stopped: of acting guards that fail closed."""
        return frozenset(
            backend
            for plan in self.plans.values()
            if plan.policy.mode is Mode.ENFORCE
            for guard in plan.policy.guards
            if plan.policy.is_acting(guard) and guard.fail_mode is FailMode.CLOSED
            for backend in getattr(plan.detectors.get(guard.name), "backends", ())
        )

    @property
    def versions(self) -> list[tuple[str, str]]:
        """Name and version of each policy."""
        return [(name, plan.policy.version) for name, plan in self.plans.items()]


class Policies:
    """The policies of a directory: read, swapped at once, kept when the new ones are wrong.

    Args:
        directory: Read at every reload.
        metrics: Where reloads are counted.
        resources: What the detectors share.
        first: Read instead at the start: a copy of what is in force, so that a worker can be replaced
            while the files are broken.

    Raises:
        PolicyError: They cannot be used.
    """

    def __init__(
        self, directory: Path, metrics: Metrics, resources: Resources, first: Path | None = None
    ) -> None:
        self.directory = directory
        self.metrics = metrics
        self._resources = resources
        self._in_force = InForce(load_policies(first or directory, resources))
        self._prepared: InForce | None = None
        metrics.set_policies((), self._in_force.versions)

    @property
    def reads_pictures(self) -> bool:
        """Whether any policy in force looks at the text in pictures."""
        return any(plan.reads_pictures for plan in self._in_force.plans.values())

    @property
    def digest(self) -> str:
        """Of the revision in force."""
        return self._in_force.revision.digest

    @property
    def needed_backends(self) -> frozenset[str]:
        """See `InForce`."""
        return self._in_force.needed_backends

    def prepare(self) -> str:
        """Read the policies anew without using them yet; returns their digest.

        Raises:
            PolicyError: Something is wrong; the old ones stay.
        """
        self._prepared = InForce(load_policies(self.directory, self._resources))
        return self._prepared.revision.digest

    def commit(self) -> None:
        """Swap in what was prepared. Exchanges under way keep what they started with."""
        if self._prepared is not None:
            self.metrics.set_policies(self._in_force.versions, self._prepared.versions)
            self._in_force, self._prepared = self._prepared, None

    def reload(self) -> bool:
        """Prepare and commit; on error the old policies stay, and a metric and the log say so."""
        try:
            digest = self.prepare()
        except PolicyError as error:
            self.metrics.reloaded("failed")
            log.error("policies not reloaded, the old ones stay: %s", error)
            return False
        if digest != self.digest:
            self.commit()
            self.metrics.reloaded("ok")
            log.info("policies reloaded: %s", ", ".join("@".join(v) for v in self._in_force.versions))
        return True

    def plan_for(self, model: str, client: Client) -> Plan:
        """The policy in force for a model and a client."""
        return self._in_force.plan_for(model, client)

    def plan_named(self, policy: str) -> Plan | None:
        """A policy in force by its name."""
        return self._in_force.plans.get(policy)
