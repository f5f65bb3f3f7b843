#!/usr/bin/env bash
# Runs any vidgen command on all devices of this machine:
#   bash launch/local.sh train --config=experiments/trivd_shape_motion.py:cpu --workdir=runs/shapes
#
# Options for debugging, before the command; all other words are passed on:
#   --nan-check   stops when a value becomes NaN (JAX_DEBUG_NANS); with --no-jit the traceback ends at that operation
#   --no-jit      runs operation by operation (JAX_DISABLE_JIT), so that a debugger shows values; a step of a small
#                 model takes minutes
#   --steps=N     train only: N steps in total (--config.train.num_steps=N)
#   bash launch/local.sh --no-jit --steps=1 train --config=experiments/trivd_shape_motion.py:smoke --workdir=runs/debug
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
steps=""
while [[ "${1:-}" == -* ]]; do
  case "$1" in
    --nan-check) export JAX_DEBUG_NANS=1 ;;
    --no-jit) export JAX_DISABLE_JIT=1 ;;
    --steps=*) steps="${1#*=}" ;;
    *) break ;;
  esac
  shift
done
if [[ -n "$steps" ]]; then
  if [[ "${1:-}" != train ]]; then
    printf 'local: error: --steps=%s applies to train only, but the command is %s\n' "$steps" "${1:-missing}" >&2
    exit 2
  fi
  set -- "$@" --config.train.num_steps="$steps"
fi
bash "$root/launch/setup.sh"
exec "${VIDGEN_VENV:-$root/.venv}/bin/python" -m vidgen_jax "$@"
