#!/usr/bin/env bash
# Creates the virtual environment and installs vidgen_jax into it, with the versions of launch/constraints.txt.
# Needs only Python >= 3.11 with its venv module. Quick when nothing changed, so the other scripts call it each time.
#
#   VIDGEN_VENV     where the environment is            (default: .venv in the repository)
#   VIDGEN_PYTHON   the interpreter to build it from    (default: the first of python3.13, 3.12, 3.11, python3 that works)
#   VIDGEN_EXTRAS   extras of pyproject.toml, by comma  (default: dev,tensorboard; and cuda13 where an NVIDIA GPU is seen)
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${VIDGEN_VENV:-$root/.venv}"
stamp="$venv/.vidgen_stamp"

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }

# A name on the PATH may be a shim that does not run, and a distribution may ship Python without ensurepip.
find_python() {
  local candidate without_venv=""
  for candidate in ${VIDGEN_PYTHON:+"$VIDGEN_PYTHON"} python3.13 python3.12 python3.11 python3 python; do
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
    if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
      printf '%s\n' "$candidate"
      return
    fi
    without_venv="${without_venv:-$candidate}"
  done
  if [[ -n "$without_venv" ]]; then
    fail "$without_venv has no ensurepip, so it cannot make a virtual environment; install its venv package" \
      "(on Debian and Ubuntu: apt-get install python3-venv) or set VIDGEN_PYTHON to another interpreter"
  fi
  fail "no Python >= 3.11 found; install one, or set VIDGEN_PYTHON to its path"
}

extras="${VIDGEN_EXTRAS:-}"
if [[ -z "$extras" ]]; then
  extras="dev,tensorboard"
  if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then
    extras="$extras,cuda13"
  fi
fi

# What the environment depends on: the two files, the extras, and the place that the editable install points at.
fingerprint() {
  "$venv/bin/python" - "$root" "$extras" <<'PY'
import hashlib, pathlib, sys
root, extras = pathlib.Path(sys.argv[1]), sys.argv[2]
digest = hashlib.sha256(f'{root}\n{extras}\n{sys.version}\n'.encode())
for name in ('pyproject.toml', 'launch/constraints.txt'):
  digest.update((root / name).read_bytes())
sys.stdout.write(digest.hexdigest())
PY
}

if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  if [[ -f "$stamp" && "$(cat "$stamp")" == "$(fingerprint)" ]]; then
    exit 0
  fi
else
  [[ ! -e "$venv" || -f "$venv/pyvenv.cfg" ]] || fail "$venv exists and is no virtual environment; set VIDGEN_VENV"
  python="$(find_python)"
  say "creating $venv with $("$python" --version)"
  "$python" -m venv --clear "$venv" || fail "$python could not create $venv"
fi

say "installing vidgen_jax[$extras] into $venv (about a minute; more with cuda13)"
rm -f "$stamp"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  --constraint "$root/launch/constraints.txt" --editable "${root}[${extras}]" ||
  fail "pip could not install the packages (its message is above); run this again to continue"
fingerprint >"$stamp"
say "done in ${SECONDS} s"
