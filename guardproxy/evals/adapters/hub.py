"""Rows through the `datasets` library, for users with a network. Imported only when asked for."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

from guardproxy.errors import SuiteError
from guardproxy.evals.adapters.base import Row


def rows(dataset: str, config: str | None, split: str) -> Iterator[Row]:
    """The rows of a split; a picture column holds the path of a kept PNG file.

    Raises:
        SuiteError: The library is not installed, or the set cannot be had.
    """
    try:
        library: Any = import_module("datasets")
    except ImportError:
        raise SuiteError(
            f"{dataset}: loading it from a hub needs the library `datasets` (pip install datasets); "
            "or fetch the set yourself and give its path"
        ) from None
    try:
        loaded = library.load_dataset(dataset, config, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        raise SuiteError(f"{dataset}: cannot be loaded: {str(error)[:300]}") from error
    for index, fields in enumerate(loaded):
        kept = {
            key: keep(value, dataset) if isinstance(value, Image.Image) else value
            for key, value in fields.items()
        }
        yield Row(kept, f"{dataset}[{index}]")


def keep(image: Image.Image, dataset: str) -> Path:
    """Write a picture into the user's cache, once, by its content."""
    out = io.BytesIO()
    image.convert("RGB").save(out, "PNG")
    raw = out.getvalue()
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "guardproxy" / "suites" / dataset.replace("/", "_") / f"{sha256(raw).hexdigest()[:24]}.png"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    return path
