#!/usr/bin/env bash
# Installs what is missing and runs the tests on the CPU. Arguments go to pytest: `bash launch/test.sh tests/ops -k pool`.
#
#   VIDGEN_TEST_WORKERS   processes that run tests side by side (default: 2; 0 runs them in this one, as a debugger wants)
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bash "$root/launch/setup.sh"
cd "$root"
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
exec "${VIDGEN_VENV:-$root/.venv}/bin/python" -m pytest \
  --numprocesses "${VIDGEN_TEST_WORKERS:-2}" --dist worksteal --durations=15 "$@"
