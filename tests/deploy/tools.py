"""What the tests of the deployment need beside Python: Debian packages, put in place by `setup.sh`."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip, or fail where everything has to run."""
    text = f"{what} (tests/deploy/setup.sh installs what is needed)"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


def tool(name: str) -> str:
    """The path of a program that `setup.sh` installs."""
    path = shutil.which(name)
    return path or missing(f"{name} is not installed")
