#!/usr/bin/env bash
# Installs missing packages and runs the tests on the CPU, without those marked slow. Arguments go to pytest:
# `bash launch/test.sh tests/ops -k pool`.
#
#   --slow, VIDGEN_SLOW=1   also runs the tests marked slow
#   VIDGEN_TEST_WORKERS     number of processes (default: 2; 0 runs the tests in the main process, for a debugger)
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bash "$root/launch/setup.sh"
cd "$root"
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
exec "${VIDGEN_VENV:-$root/.venv}/bin/python" -m pytest \
  --numprocesses "${VIDGEN_TEST_WORKERS:-2}" --dist worksteal --durations=15 "$@"
