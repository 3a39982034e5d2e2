"""The real command line with one more detector, which fails as it is told: `python -m tests.deploy.flaky serve …`.

No shipped detector fails on command, and the dashboards' queries about failures need some.
"""

from __future__ import annotations

import asyncio
import sys

from guardproxy import cli
from guardproxy.core.verdict import Finding
from guardproxy.detectors import registry
from guardproxy.detectors.base import Content
from guardproxy.errors import DetectorError


class Flaky:
    """Fails on `/overload`, is late on `/stall`, has a bug on `/bug`, and finds nothing otherwise."""

    name = "flaky"
    version = "1"
    inline = False

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        text = " ".join(segment.text for segment in content.segments)
        if "/overload" in text:
            raise DetectorError("its queue is full", "overloaded")
        if "/stall" in text:
            await asyncio.sleep(60)
        if "/bug" in text:
            raise ZeroDivisionError("a bug, for the dashboards")
        return ()


def build(parameters: object, resources: object) -> Flaky:
    return Flaky()


# At import, since workers import it anew.
registry.DETECTORS["flaky"] = registry.Entry("tests.deploy.flaky:build", ("user",), ("content",))  # type: ignore[index]

if __name__ == "__main__":
    sys.exit(cli.main())
