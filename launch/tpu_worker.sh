#!/usr/bin/env bash
# tpu_pod.sh runs this script over ssh on each worker of a slice. It manages one run at a time; the log and the exit
# status in ~/vidgen_run survive the connection.
#
#   install [BUCKET [COMMAND]]   installs Python and vidgen_jax, mounts the bucket at ~/bucket, runs COMMAND; repeatable
#   start ARGUMENTS...           starts `vidgen train --distributed ARGUMENTS...`, detached, unless a run is active;
#                                JAX_COMPILATION_CACHE_DIR is --workdir/compilation_cache unless it is set
#   status                       prints `worker HOST running`, `exited CODE`, `lost` (ended without a status) or `none`
#   size, log FROM               prints the size of the log in bytes; the log from byte FROM on
#   stop                         sends SIGTERM, which saves the state; SIGKILL after VIDGEN_STOP_SECONDS (default: 120)
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
folder="$HOME/vidgen_run"
export VIDGEN_EXTRAS="${VIDGEN_EXTRAS:-tpu,tensorboard,gcs}"
mkdir -p "$folder"
# A run holds this lock, which is released when its process ends for any reason. `supervise` inherits it from `start`.
[[ "${1:-}" == supervise ]] || exec 9>>"$folder/lock"

write_status() {
  printf '%s\n' "$1" >"$folder/status.new"
  mv "$folder/status.new" "$folder/status"
}

apt_install() {
  sudo apt-get -o DPkg::Lock::Timeout=600 -q update
  sudo apt-get -o DPkg::Lock::Timeout=600 -q -y install "$@"
}

install_python() {
  # Ubuntu 22.04 has Python 3.10.
  python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    command -v python3.11 >/dev/null || apt_install python3.11 python3.11-venv
}

mount_bucket() {
  local key=/usr/share/keyrings/cloud.google.asc source=https://packages.cloud.google.com/apt
  if ! command -v gcsfuse >/dev/null; then
    curl -fsSL "$source/doc/apt-key.gpg" | sudo tee "$key" >/dev/null
    printf 'deb [signed-by=%s] %s gcsfuse-%s main\n' "$key" "$source" "$(lsb_release -cs)" |
      sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
    apt_install gcsfuse
  fi
  mkdir -p "$HOME/bucket"
  # A checkpoint in the bucket gets its name when it is complete, which renames a folder.
  mountpoint -q "$HOME/bucket" || gcsfuse --implicit-dirs --rename-dir-limit=100000 "$1" "$HOME/bucket"
  # The checkout is the current folder of runs.
  ln -sfn "$HOME/bucket" "$root/bucket"
}

install() {
  install_python
  [[ -z "${1:-}" ]] || mount_bucket "$1"
  [[ -z "${2:-}" ]] || bash -c "$2"
  bash "$root/launch/setup.sh" 9>&-
}

start() {
  if ! flock -w 1 9; then
    printf 'already running\n'
    return
  fi
  write_status started
  [[ ! -f "$folder/log" ]] || mv "$folder/log" "$folder/log.before"
  # A new session, which keeps the lock: the run survives the ssh connection.
  setsid nohup bash "${BASH_SOURCE[0]}" supervise "$@" </dev/null >"$folder/log" 2>&1 &
}

# The folder of the compiled programs: in the workdir, because the disks of the workers are lost with the slice.
compilation_cache() { # ARGUMENTS
  local workdir=""
  while (($#)); do
    case "$1" in
      --workdir=* | -workdir=*) workdir="${1#*=}" ;;
      --workdir | -workdir) workdir="${2:-}" ;;
    esac
    shift
  done
  [[ -z "$workdir" ]] || printf '%s/compilation_cache' "${workdir%/}"
}

# Waits for the run and writes its exit status. A shutdown of the machine also sends SIGTERM to this process.
supervise() {
  local child code="" before asked="" again
  printf '%s\n' "$$" >"$folder/pid"
  cd "$root"
  export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$(compilation_cache "$@")}"
  bash launch/local.sh train --distributed "$@" 9>&- &
  child=$!
  trap 'asked=yes again=yes; kill -TERM "$child" 2>/dev/null || true' TERM
  while true; do
    before="$code" code=0 again=""
    wait "$child" || code=$?
    if [[ "$code" == 127 && -n "$before" ]]; then
      code="$before" # The run had ended before the signal.
    fi
    [[ -n "$again" ]] || break # A signal interrupts `wait`, not the run.
  done
  # Killed by SIGTERM before its handler was installed: counts as stopped by the platform (PREEMPTED_EXIT_CODE).
  if [[ "$code" == 143 && -n "$asked" ]]; then
    code=75
  fi
  write_status "exited $code"
}


status() {
  local state=none
  if ! flock -n -s 9; then
    state=running
  elif [[ -f "$folder/status" ]]; then
    state="$(cat "$folder/status")"
    [[ "$state" != started ]] || state=lost
  fi
  printf 'worker %s %s\n' "$(hostname)" "$state"
}

stop() {
  local pid
  if flock -n 9; then
    return
  fi
  pid="$(cat "$folder/pid")"
  kill -TERM "$pid" 2>/dev/null || true
  # The whole process group, with all remaining children.
  flock -w "${VIDGEN_STOP_SECONDS:-120}" 9 || kill -KILL -- "-$pid" 2>/dev/null || true
}

action="${1:-}"
shift || true
case "$action" in
  install) install "$@" ;;
  start) start "$@" ;;
  supervise) supervise "$@" ;;
  status) status ;;
  stop) stop ;;
  size) stat -c %s "$folder/log" 2>/dev/null || printf '0\n' ;;
  log) tail -c "+$((${1:-0} + 1))" "$folder/log" 2>/dev/null || true ;;
  *)
    printf 'tpu_worker: unknown action %s; see the comment in %s\n' "$action" "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
