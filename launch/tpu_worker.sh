#!/usr/bin/env bash
# What tpu_pod.sh starts on each worker of a slice, over ssh: one run at a time, whose log and exit status outlive the
# connection. They lie in ~/vidgen_run.
#
#   install [BUCKET [COMMAND]]   Python and vidgen_jax; mounts the bucket at ~/bucket; runs COMMAND; quick when repeated
#   start ARGUMENTS...           `vidgen train --distributed ARGUMENTS...`, detached; leaves a run that goes on alone
#   status                       `worker HOST running`, `exited CODE`, `lost` (ended without a status) or `none`
#   size, log FROM               bytes of the log; the log from that byte on
#   stop                         SIGTERM, which saves the state; SIGKILL after VIDGEN_STOP_SECONDS (default: 120)
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
folder="$HOME/vidgen_run"
export VIDGEN_EXTRAS="${VIDGEN_EXTRAS:-tpu,tensorboard,gcs}"
mkdir -p "$folder"
# Whoever runs holds this lock: it goes with the process, whatever ends it. `supervise` has it from `start`.
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
  # The images of Ubuntu 22.04 come with Python 3.10.
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
  # For runs that are kept there too: their checkpoints get their names when they are complete, so folders are renamed.
  mountpoint -q "$HOME/bucket" || gcsfuse --implicit-dirs --rename-dir-limit=100000 "$1" "$HOME/bucket"
  # Runs start in the checkout.
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
  # A session of its own, which keeps the lock: the run outlives the ssh connection.
  setsid nohup bash "${BASH_SOURCE[0]}" supervise "$@" </dev/null >"$folder/log" 2>&1 &
}

# Waits for the run and writes its status down. A machine that is shut down sends SIGTERM to this process too.
supervise() {
  local child code="" before asked="" again
  printf '%s\n' "$$" >"$folder/pid"
  cd "$root"
  bash launch/local.sh train --distributed "$@" 9>&- &
  child=$!
  trap 'asked=yes again=yes; kill -TERM "$child" 2>/dev/null || true' TERM
  while true; do
    before="$code" code=0 again=""
    wait "$child" || code=$?
    if [[ "$code" == 127 && -n "$before" ]]; then
      code="$before" # It had ended before the signal came.
    fi
    [[ -n "$again" ]] || break # A signal ends the waiting, not the run.
  done
  # Ended by SIGTERM before it could note it: that counts as stopped by the platform (PREEMPTED_EXIT_CODE).
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
  # Also whatever it left behind.
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
    printf 'tpu_worker: unknown action %s; see the head of %s\n' "$action" "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
