#!/usr/bin/env bash
# Trains on a Cloud TPU slice through gcloud: the same program on every worker, restarted after each preemption.
#
#   launch/tpu_pod.sh [OPTIONS] --name=NAME --zone=ZONE ACTION [ARGUMENTS...]
#
#   train ARGUMENTS...  create, upload, install, run ARGUMENTS... and watch; uses an existing slice and run. Without
#                       ARGUMENTS: those of the last run
#   watch               shows the log of the run. If the slice is preempted, deletes what this checkout created, creates
#                       it again and restarts the same command, until the run is done. The run's exit status decides:
#                       0 is done, 75 (stopped by the platform) restarts it, any other ends with the tail of the log
#   create              creates the slice if it does not exist, and waits until its workers respond
#   upload, install     copies this checkout to every worker; installs it there
#   run ARGUMENTS...    starts `vidgen train --distributed ARGUMENTS...` on every worker, detached; --workdir must be
#                       gs://BUCKET/..., or on a file system that all workers share (--prepare). It also keeps the
#                       compiled programs, in compilation_cache/, unless JAX_COMPILATION_CACHE_DIR is set
#   status, log         state of slice and run; follows worker 0's log
#   stop                stops the run, which saves its state; keeps the slice
#   fetch FROM TO       copies a gs:// folder, or a path on worker 0, to this machine
#   delete              deletes the slice, if this checkout created it
#
# Options; those of the slice are stored for later actions, until it is deleted:
#   --type=v4-32        v2, v3, v4, v5e (v5litepod), v5p and v6e, with their number as in Cloud TPU's documentation
#   --runtime=VERSION   software of the workers (default: the one for the type)
#   --spot              cheaper, but may be preempted
#   --queued            requests a queued resource of the same name, and waits until it is ACTIVE
#   --project=PROJECT   (default: gcloud's)
#   --bucket=BUCKET     mounted at ~/bucket of every worker, for data: --config.data.data_dir=bucket/...
#   --prepare=COMMAND   command that `install` runs on every worker, such as the mount of a Filestore share
#   --max_restarts=100  maximal number of restarts of the run by `train` and `watch`
#   --timeout=86400     seconds to wait for the slice; at most half an hour for workers that do not respond
#   --poll=60           seconds between two checks
#   --dry-run           prints all commands without executing them
#
# Every action may be repeated. `train` and `watch` may be interrupted: the run continues, and `watch` finds it again.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
name="" zone="" project="" dry_run="" max_restarts=100 timeout=86400 poll=60
type="" runtime="" spot="" queued="" bucket="" prepare="" identifier=""
patience=1800     # seconds, for workers of a slice that is READY
preempted_code=75 # PREEMPTED_EXIT_CODE of vidgen_jax/parallel/processes.py
exec 3>&1         # --dry-run prints to it where stdout is captured

say() { printf 'tpu_pod: %s\n' "$*" >&2; }
fail() {
  say "error: $*"
  exit 2
}
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
    --queued) queued=yes ;;
    --bucket=*) bucket="${1#*=}" ;;
    --prepare=*) prepare="${1#*=}" ;;
    --max_restarts=*) max_restarts="${1#*=}" ;;
    --timeout=*) timeout="${1#*=}" ;;
    --poll=*) poll="${1#*=}" ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) fail "unknown option $1; --help lists them" ;;
  esac
  shift
done
action="${1:-}"
[[ -n "$action" ]] || fail "an action is missing: train, watch, create, ...; see --help"
shift
[[ -n "$name" && -n "$zone" ]] || fail "--name and --zone are required"
[[ "$name" =~ ^[a-z][a-z0-9-]*$ ]] || fail "--name=$name: use lower-case letters, digits and hyphens"
[[ "$max_restarts" =~ ^[0-9]+$ ]] || fail "--max_restarts=$max_restarts is not a number"
[[ "$timeout" =~ ^[0-9]+$ ]] || fail "--timeout=$timeout is not a number of seconds"
[[ "$prepare" != *$'\n'* ]] || fail "--prepare: use one line"
[[ "$poll" =~ ^[0-9]+(\.[0-9]+)?$ ]] || fail "--poll=$poll is not a number of seconds"

((patience <= timeout)) || patience="$timeout"
where=(--zone="$zone" ${project:+--project="$project"})
# What this checkout created: `slice` contains the options and the random identifier, which is also the slice's label;
# `command` contains the arguments of the last run.
record="$root/.cache/tpu_pods/${project:-default}_${zone}_${name}"
if [[ -f "$record/slice" ]]; then
  while IFS='=' read -r key value; do
    case "$key" in
      identifier) identifier="$value" ;;
      type) type="${type:-$value}" ;;
      runtime) runtime="${runtime:-$value}" ;;
      spot) spot="${spot:-$value}" ;;
      queued) queued="$value" ;; # A slice must be deleted in the way it was created.
      bucket) bucket="${bucket:-$value}" ;;
      prepare) prepare="${prepare:-$value}" ;;
    esac
  done <"$record/slice"
fi
type="${type:-v4-32}"
type="${type/#v5e-/v5litepod-}"
bucket="${bucket#gs://}"
if [[ -z "$runtime" ]]; then
  case "$type" in
    v2-* | v3-* | v4-*) runtime=tpu-ubuntu2204-base ;;
    v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
    v5p-*) runtime=v2-alpha-tpuv5 ;;
    v6e-*) runtime=v2-alpha-tpuv6e ;;
    *) fail "--type=$type: unknown runtime; give it as --runtime" ;;
  esac
fi

command_line() { printf '%q ' "$@" | sed 's/ $//'; }
execute() {
  if [[ -n "$dry_run" ]]; then
    printf '%s\n' "$(command_line "$@")" >&3
  else
    say "$(command_line "$@")"
    "$@" 3>&-
  fi
}
quietly() { # As `execute`, without printing the command.
  if [[ -n "$dry_run" ]]; then
    printf '%s\n' "$(command_line "$@")" >&3
  else
    "$@" 3>&-
  fi
}
ssh_to() { # WORKER COMMAND
  quietly gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --quiet --worker="$1" \
    --ssh-flag=-oConnectTimeout=30 --ssh-flag=-oServerAliveInterval=15 --command="$2"
}
worker_script() { printf 'bash vidgen_jax/launch/tpu_worker.sh %s' "$(command_line "$@")"; }

# The kind of resource that `create` requested.
resources() {
  if [[ -n "$queued" ]]; then
    printf 'queued-resources'
  else
    printf 'tpu-vm'
  fi
}

# Whether a KIND (tpu-vm, queued-resources) of this name exists; status 2 if gcloud fails.
exists() {
  local found
  # Not `describe`, which also fails if gcloud lacks permission.
  found="$(quietly gcloud compute tpus "$1" list "${where[@]}" --format='value(name)')" || return 2
  printf '%s\n' "$found" | grep -Eq "(^|/)$name\$"
}

describe() { quietly gcloud compute tpus "$1" describe "$name" "${where[@]}" --format="value($2)"; }

# READY; MISSING; another state of the slice, or of the queued resource while it has no slice; UNKNOWN if gcloud fails.
slice_state() {
  local state code=0
  exists "$(resources)" || code=$?
  case "$code" in
    0) ;;
    1) printf 'MISSING\n' && return ;;
    *) printf 'UNKNOWN\n' && return ;;
  esac
  if [[ -n "$queued" ]]; then
    state="$(describe queued-resources state.state)" || state=UNKNOWN
    if [[ "$state" != ACTIVE ]]; then
      printf '%s\n' "$state"
      return
    fi
  fi
  state="$(describe tpu-vm state)" || state=UNKNOWN
  printf '%s\n' "${state:-UNKNOWN}"
}

is_gone() { [[ "$1" =~ ^(MISSING|PREEMPTED|TERMINATED|SUSPENDED)$ ]]; }

request() {
  identifier="vidgen-$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')"
  if [[ -z "$dry_run" ]]; then
    # Before the request: if its response is lost, this checkout must still be able to delete the slice.
    mkdir -p "$record"
    printf '%s\n' "identifier=$identifier" "type=$type" "runtime=$runtime" "spot=$spot" "queued=$queued" \
      "bucket=$bucket" "prepare=$prepare" >"$record/slice.new"
    mv "$record/slice.new" "$record/slice"
  fi
  if [[ -n "$queued" ]]; then
    execute gcloud compute tpus queued-resources create "$name" "${where[@]}" --node-id="$name" \
      --accelerator-type="$type" --runtime-version="$runtime" --labels="created-by=$identifier" ${spot:+--spot}
  else
    execute gcloud compute tpus tpu-vm create "$name" "${where[@]}" \
      --accelerator-type="$type" --version="$runtime" --labels="created-by=$identifier" ${spot:+--spot}
  fi
}

# Fails if this checkout did not create the resource that has the name now.
check_own() {
  local label=labels.created-by found
  [[ -n "$identifier" ]] || fail "this checkout did not create $name; it is not deleted"
  if [[ -n "$queued" ]]; then
    label='tpu.nodeSpec[0].node.labels.created-by'
  fi
  found="$(describe "$(resources)" "$label")" || fail "gcloud does not report the label of $name; it is not deleted"
  [[ "$found" == "$identifier" ]] ||
    fail "$name has another label than the slice that this checkout created; it is not deleted"
}

delete_slice() {
  if [[ -z "$dry_run" ]]; then
    check_own
  fi
  if [[ -n "$queued" ]]; then
    execute gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
  else
    execute gcloud compute tpus tpu-vm delete "$name" "${where[@]}" --quiet
  fi
}

# In whole seconds; never interrupts a command.
check_time() { # SINCE WHAT
  ((SECONDS - $1 <= timeout)) || fail "$2 for --timeout=$timeout seconds; repeat the command to continue waiting"
}

create() {
  local began=$SECONDS state errors code
  if [[ -n "$dry_run" ]]; then
    request
    describe "$(resources)" "$([[ -n "$queued" ]] && printf 'state.state' || printf 'state')"
    ssh_to all true
    return
  fi
  while true; do
    state="$(slice_state)"
    [[ "$state" != UNKNOWN || -n "$unattended" ]] || fail "gcloud could not list the resources; its message is above"
    if [[ "$state" == READY ]]; then
      if ssh_to all true </dev/null; then
        say "$name is ready"
        return
      fi
      state="READY, but its workers do not respond"
    elif [[ "$state" == MISSING ]]; then
      errors="$(mktemp)" code=0
      request 2> >(tee "$errors" >&2) || code=$?
      if ((code)) && ! grep -Eiq 'capacity|exhausted|stockout|unavailable|internal error' "$errors"; then
        rm -f "$errors"
        fail "gcloud could not create $name; its message is above"
      fi
      rm -f "$errors"
      ((code)) || continue
    elif [[ "$state" == FAILED ]]; then
      fail "the request for $name is FAILED; see gcloud compute tpus queued-resources describe, then delete it"
    elif is_gone "$state"; then
      delete_slice || say "gcloud could not delete $name yet"
      continue
    fi
    say "$name is $state; checking again in $poll s"
    check_time "$began" "$name was not ready"
    sleep "$poll"
  done
}

upload() {
  local archive="$root/.cache/vidgen_jax.tar.gz"
  [[ -n "$dry_run" ]] || mkdir -p "$root/.cache"
  execute tar -C "$root" --exclude=./.git --exclude=./.venv --exclude=./.cache --exclude=./runs --exclude=./data \
    -czf "$archive" . &&
    execute gcloud compute tpus tpu-vm scp "$archive" "$name:vidgen_jax.tar.gz" "${where[@]}" --quiet --worker=all &&
    ssh_to all 'mkdir -p vidgen_jax && tar -C vidgen_jax -xzf vidgen_jax.tar.gz'
}

install() { ssh_to all "$(worker_script install "$bucket" "$prepare")"; }

run() {
  [[ $# -gt 0 ]] || fail "run needs the arguments of vidgen train: --config=... --workdir=gs://..."
  if [[ -z "$dry_run" ]]; then
    mkdir -p "$record"
    command_line "$@" >"$record/command"
  fi
  local cache="${JAX_COMPILATION_CACHE_DIR:-}"
  ssh_to all "${cache:+JAX_COMPILATION_CACHE_DIR=$(command_line "$cache") }$(worker_script start "$@")"
}

unattended="" # While a run is active, a failure of gcloud may be temporary.

# The arguments of the last run, as one quoted line.
last_command() { cat "$record/command" 2>/dev/null || fail "no run was started from this checkout; use train or run"; }

launch() { # QUOTED_ARGUMENTS
  local -a arguments
  eval "arguments=($1)" # Written by `command_line`.
  create && upload && install && run "${arguments[@]}" && log_position=0
}

# Of the run on all workers: running, ending (some still run), done, preempted, lost, failed, none, unreachable.
run_state() {
  local answer running others
  answer="$(ssh_to all "$(worker_script status)" </dev/null)" || answer=""
  answer="$(printf '%s\n' "$answer" | sed -n 's/^worker //p')"
  if [[ -z "$answer" ]]; then
    printf 'unreachable\n'
    return
  fi
  running="$(grep -c ' running$' <<<"$answer" || true)"
  others="$(grep -vc ' running$' <<<"$answer" || true)"
  if ((running && others)); then
    printf 'ending\n'
  elif ((running)); then
    printf 'running\n'
  elif ! grep -qv ' exited 0$' <<<"$answer"; then
    printf 'done\n'
  elif ! grep -qv ' none$' <<<"$answer"; then
    printf 'none\n'
  elif grep -q " exited $preempted_code\$" <<<"$answer"; then
    printf 'preempted\n'
  elif grep -Eq ' (lost|none)$' <<<"$answer"; then
    printf 'lost\n' # A worker was restarted or lost its process; its peers end with other errors.
  else
    sed -n 's/.* exited \([1-9][0-9]*\)$/failed with exit status \1/p' <<<"$answer" | head -n 1
  fi
}

log_position=""
show_log() { # New lines of worker 0; the first time the last lines.
  local new
  if [[ -z "$log_position" ]]; then
    log_position="$(ssh_to 0 "$(worker_script size)" </dev/null 2>/dev/null)" || log_position=""
    [[ "$log_position" =~ ^[0-9]+$ ]] || return 0
    log_position=$((log_position > 4000 ? log_position - 4000 : 0))
  fi
  new="$(mktemp)"
  if ssh_to 0 "$(worker_script log "$log_position")" </dev/null >"$new" 2>/dev/null; then
    cat "$new"
    log_position=$((log_position + $(wc -c <"$new")))
  fi
  rm -f "$new"
}

watch() {
  local arguments restarts=0 failures=0 since="" state run=""
  if [[ -n "$dry_run" ]]; then
    describe "$(resources)" state
    ssh_to all "$(worker_script status)"
    ssh_to 0 "$(worker_script log 0)"
    return
  fi
  arguments="$(last_command)"
  unattended=yes
  while true; do
    state="$(slice_state)"
    if [[ "$state" == READY ]]; then
      run="$(run_state)"
      [[ "$run" == unreachable ]] || show_log
    elif is_gone "$state"; then
      run=gone
    else
      run=waiting
    fi
    case "$run" in
      running) since="" ;;
      done)
        say "the run is done"
        return
        ;;
      none) fail "no run was started on $name; use train or run" ;;
      failed*)
        # The peers of a preempted worker fail, and gcloud may report the preemption later.
        sleep "$poll"
        state="$(slice_state)"
        if [[ "$state" == READY && "$(run_state)" == "$run" ]]; then
          ssh_to 0 'tail -n 50 vidgen_run/log' </dev/null || true
          say "error: the run $run; the end of worker 0's log is above, the slice still exists"
          exit 1
        fi
        continue
        ;;
      preempted | lost | gone)
        if ((++restarts > max_restarts)); then
          say "error: stopped by the platform after --max_restarts=$max_restarts; repeat the command to continue"
          exit "$preempted_code"
        fi
        say "the run is $run, the slice $state; restart $restarts of at most $max_restarts"
        if ! launch "$arguments"; then
          # Preempted in the meantime, which gcloud may report later; or a failure that restarts do not fix.
          sleep "$poll"
          [[ "$(slice_state)" == READY ]] || failures=0
          ((++failures < 3)) || fail "$name is READY, but the run could not be started; the message is above"
          continue
        fi
        failures=0 since=""
        ;;
      *)
        since="${since:-$SECONDS}"
        say "slice $state, run $run; checking again in $poll s"
        if [[ "$state" == READY ]] && ((SECONDS - since > patience)); then
          [[ "$run" == ending ]] || fail "the workers of $name do not respond"
          # Some workers wait for peers that have exited; once stopped, the exit statuses decide.
          ssh_to all "$(worker_script stop)" </dev/null || true
          since=""
        fi
        check_time "${since:-$SECONDS}" "slice $state, run $run,"
        ;;
    esac
    sleep "$poll"
  done
}

train() {
  local arguments
  if [[ $# -gt 0 ]]; then
    arguments="$(command_line "$@")"
  elif [[ -n "$dry_run" ]]; then
    fail "train needs the arguments of vidgen train: --config=... --workdir=gs://..."
  else
    arguments="$(last_command)"
  fi
  if [[ -z "$dry_run" && "$(slice_state)" == READY && "$(run_state)" == running ]]; then
    [[ "$arguments" == "$(last_command)" ]] || fail "another run is active: $(last_command); stop it first, or watch it"
    say "the run is active"
  else
    launch "$arguments" || fail "the run could not be started; the message is above; repeat the command to retry"
  fi
  watch
}

status() {
  if [[ -n "$dry_run" ]]; then
    describe "$(resources)" state
    ssh_to all "$(worker_script status)"
    return
  fi
  local state
  state="$(slice_state)"
  printf 'slice %s\n' "$state"
  if [[ "$state" == READY ]]; then
    printf 'run %s\n' "$(run_state)"
  fi
}

fetch() {
  [[ $# -eq 2 ]] || fail "fetch needs two arguments: FROM and TO"
  if [[ "$1" == gs://* ]]; then
    execute gcloud storage cp --recursive "$1" "$2" ${project:+--project="$project"}
  else
    execute gcloud compute tpus tpu-vm scp --recurse "$name:$1" "$2" "${where[@]}" --quiet --worker=0
  fi
}

delete() {
  local code=0
  if [[ -z "$dry_run" ]]; then
    [[ -n "$identifier" ]] || fail "this checkout did not create $name; it is not deleted"
    exists "$(resources)" || code=$?
    ((code < 2)) || fail "gcloud could not list the resources"
  fi
  if ((code)); then
    say "$name does not exist"
  else
    delete_slice
  fi
  [[ -n "$dry_run" ]] || rm -rf "$record"
}

case "$action" in
  train | watch | create | upload | install | run | status | fetch | delete) "$action" "$@" ;;
  log) ssh_to 0 'tail -n 100 -F vidgen_run/log' ;;
  stop) ssh_to all "$(worker_script stop)" ;;
  *) fail "unknown action $action; choose train, watch, create, run, status, log, stop, fetch or delete" ;;
esac
