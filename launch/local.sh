#!/usr/bin/env bash
# Runs any vidgen command on this machine, with all of its devices:
#   bash launch/local.sh train --config=experiments/trivd_shape_motion.py:cpu --workdir=runs/shapes
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bash "$root/launch/setup.sh"
exec "${VIDGEN_VENV:-$root/.venv}/bin/python" -m vidgen_jax "$@"
