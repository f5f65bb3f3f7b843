#!/usr/bin/env bash
# Creates the virtual environment and installs vidgen_jax into it, with the versions of launch/constraints-*.txt: jax
# 0.10 on Python 3.11, jax 0.12 on Python 3.12 and 3.13. Needs only Python >= 3.11 with its venv module. Takes no time
# if nothing has changed, so the other scripts call it each time.
#
#   VIDGEN_VENV     folder of the environment (default: .venv in the repository)
#   VIDGEN_PYTHON   interpreter of a new environment (default: the newest of python3.13, 3.12, 3.11, python3 that works)
#   VIDGEN_EXTRAS   comma-separated extras of pyproject.toml (default: dev,tensorboard; also cuda13 on NVIDIA GPUs)
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
    fail "$without_venv has no ensurepip, which a virtual environment needs; install its venv package" \
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

# jax 0.10.2 is the last version for Python 3.11.
constraints_file() {
  "$venv/bin/python" -c 'import sys; print(f"constraints-py{311 if sys.version_info < (3, 12) else 312}.txt")'
}

# Changes with everything that the environment depends on: versions, extras, and the folder of the editable install.
fingerprint() {
  "$venv/bin/python" - "$root" "$extras" "$(constraints_file)" <<'PY'
import hashlib, pathlib, sys
root, extras, constraints = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
digest = hashlib.sha256(f'{root}\n{extras}\n{sys.version}\n'.encode())
for name in ('pyproject.toml', f'launch/{constraints}'):
  digest.update((root / name).read_bytes())
sys.stdout.write(digest.hexdigest())
PY
}

if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  if [[ -f "$stamp" && "$(cat "$stamp")" == "$(fingerprint)" ]]; then
    exit 0
  fi
else
  [[ ! -e "$venv" || -f "$venv/pyvenv.cfg" ]] || fail "$venv exists but is not a virtual environment; set VIDGEN_VENV"
  python="$(find_python)"
  say "creating $venv with $("$python" --version)"
  "$python" -m venv --clear "$venv" || fail "$python could not create $venv"
fi

say "installing vidgen_jax[$extras] into $venv (about a minute; longer with cuda13)"
rm -f "$stamp"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  --constraint "$root/launch/$(constraints_file)" --editable "${root}[${extras}]" ||
  fail "pip could not install the packages (its message is above); run this script again to retry"
fingerprint >"$stamp"
say "done in ${SECONDS} s"
