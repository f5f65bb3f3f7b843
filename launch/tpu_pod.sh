#!/usr/bin/env bash
# Trains on a Cloud TPU slice through gcloud: the same program on every worker.
#
#   launch/tpu_pod.sh [--dry-run] --name=NAME --zone=ZONE [--project=PROJECT] [--type=v4-32]
#                     [--runtime=tpu-ubuntu2204-base] [--spot] ACTION [ARGUMENTS...]
#
#   create              creates the slice (or finds it), copies this checkout to every worker and installs it there
#   run ARGUMENTS...    starts `vidgen train --distributed ARGUMENTS...` on every worker, detached; the workdir must lie on a
#                       file system that all workers share (Filestore, or a bucket mounted with gcsfuse)
#   log                 follows worker 0's log
#   fetch FROM TO       copies a gs:// folder, or a path on worker 0, to this machine
#   delete              deletes the slice, if this checkout created it
#
# --dry-run prints every command and executes none. `create`, `run` and `delete` may be repeated.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
name="" zone="" project="" type="v4-32" runtime="tpu-ubuntu2204-base" spot="" dry_run=""

say() { printf 'tpu_pod: %s\n' "$*" >&2; }
fail() { say "error: $*"; exit 2; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

while [[ "${1:-}" == -* ]]; do
  case "$1" in
    --dry-run) dry_run=yes ;;
    --name=*) name="${1#*=}" ;;
    --zone=*) zone="${1#*=}" ;;
    --project=*) project="${1#*=}" ;;
    --type=*) type="${1#*=}" ;;
    --runtime=*) runtime="${1#*=}" ;;
    --spot) spot=yes ;;
    -h | --help) usage; exit 0 ;;
    *) fail "unknown option $1; --help lists them" ;;
  esac
  shift
done
action="${1:-}"
[[ -n "$action" ]] || fail "an action is missing: create, run, log, fetch or delete; --help says more"
shift
[[ -n "$name" && -n "$zone" ]] || fail "--name and --zone are required"
[[ "$name" =~ ^[a-z][a-z0-9-]*$ ]] || fail "--name=$name: use lower-case letters, digits and hyphens"

where=(--zone="$zone" ${project:+--project="$project"})
# What this checkout created: the slice bears the same random identifier as a label.
record="$root/.cache/tpu_pods/${project:-default}_${zone}_${name}"

command_line() { printf '%q ' "$@" | sed 's/ $//'; }
execute() {
  if [[ -n "$dry_run" ]]; then
    printf '%s\n' "$(command_line "$@")"
  else
    say "$(command_line "$@")"
    "$@"
  fi
}
tpu() { execute gcloud compute tpus tpu-vm "$@"; }
describe() { gcloud compute tpus tpu-vm describe "$name" "${where[@]}" --format="value($1)" 2>/dev/null; }
on_workers() { tpu ssh "$name" "${where[@]}" --worker="$1" --command="$2"; }
exists() {
  local found
  [[ -z "$dry_run" ]] || return 1
  # Not `describe`: its failure may as well mean that gcloud may not ask.
  found="$(gcloud compute tpus tpu-vm list "${where[@]}" --format='value(name)')" || fail "gcloud could not list the slices"
  printf '%s\n' "$found" | grep -Eq "(^|/)$name\$"
}

create() {
  local identifier state archive
  if exists; then
    state="$(describe state)"
    [[ "$state" == READY ]] || fail "$name exists and its state is $state, not READY"
    say "$name exists; using it"
  else
    identifier="vidgen-$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')"
    if [[ -z "$dry_run" ]]; then
      mkdir -p "$(dirname "$record")"
      printf '%s\n' "$identifier" >"$record"
    fi
    tpu create "$name" "${where[@]}" --accelerator-type="$type" --version="$runtime" \
      --labels="created-by=$identifier" ${spot:+--spot}
  fi
  archive="$root/.cache/vidgen_jax.tar.gz"
  [[ -n "$dry_run" ]] || mkdir -p "$root/.cache"
  execute tar -C "$root" --exclude=.git --exclude=.venv --exclude=.cache --exclude=runs -czf "$archive" .
  tpu scp "$archive" "$name:vidgen_jax.tar.gz" "${where[@]}" --worker=all
  # The images of Ubuntu 22.04 come with Python 3.10.
  on_workers all "$(printf '%s' \
    '(python3 -c "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))" || command -v python3.11 ||' \
    ' (sudo apt-get update -q && sudo apt-get install -q -y python3.11 python3.11-venv)) >/dev/null &&' \
    ' mkdir -p vidgen_jax && tar -C vidgen_jax -xzf vidgen_jax.tar.gz &&' \
    ' VIDGEN_EXTRAS=tpu,tensorboard bash vidgen_jax/launch/setup.sh')"
}

run() {
  [[ $# -gt 0 ]] || fail "run needs the arguments of vidgen train: --config=... --workdir=/mnt/shared/..."
  # setsid and nohup: the run outlives the ssh connection. A worker that already trains is left alone.
  # shellcheck disable=SC2016  # the worker expands them
  on_workers all "$(printf '%s' \
    'cd vidgen_jax && if kill -0 "$(cat ../vidgen.pid 2>/dev/null)" 2>/dev/null; then echo already running; else' \
    ' VIDGEN_EXTRAS=tpu,tensorboard setsid nohup bash launch/local.sh train --distributed ' "$(command_line "$@")" \
    ' >../vidgen.log 2>&1 </dev/null & echo $! >../vidgen.pid; fi')"
}

fetch() {
  [[ $# -eq 2 ]] || fail "fetch needs two arguments: FROM and TO"
  if [[ "$1" == gs://* ]]; then
    execute gcloud storage cp --recursive "$1" "$2" ${project:+--project="$project"}
  else
    tpu scp --recurse "$name:$1" "$2" "${where[@]}" --worker=0
  fi
}

delete() {
  if [[ -z "$dry_run" ]]; then
    [[ -f "$record" ]] || fail "this checkout did not create $name; it is not deleted"
    if ! exists; then
      say "$name is gone already"
      rm -f "$record"
      return
    fi
    [[ "$(describe 'labels.created-by')" == "$(cat "$record")" ]] ||
      fail "$name bears another label than the slice that this checkout created; it is not deleted"
  fi
  tpu delete "$name" "${where[@]}" --quiet
  [[ -n "$dry_run" ]] || rm -f "$record"
}

case "$action" in
  create | run | fetch | delete) "$action" "$@" ;;
  log) on_workers 0 'tail -n 100 -F vidgen.log' ;;
  *) fail "unknown action $action; choose create, run, log, fetch or delete" ;;
esac
