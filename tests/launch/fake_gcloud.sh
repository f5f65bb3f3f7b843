#!/usr/bin/env bash
# A fake gcloud: slices are folders in $FAKE/nodes, with one home folder for each of two workers.
set -euo pipefail
printf '%s\n' "$*" >>"$FAKE/called"

words=() command="" format="" worker="" label="" force=""
for word in "$@"; do
  case "$word" in
    --command=*) command="${word#*=}" ;;
    --format=*) format="${word#*=}" ;;
    --worker=*) worker="${word#*=}" ;;
    --labels=created-by=*) label="${word##*=}" ;;
    --force) force=yes ;;
    --*) ;;
    *) words+=("$word") ;;
  esac
done
kind="${words[2]}" verb="${words[3]}" name="${words[4]:-}"
node="$FAKE/nodes/$name" request="$FAKE/requests/$name"
mkdir -p "$FAKE/nodes" "$FAKE/requests" "$FAKE/deleted" "$FAKE/bucket"

make_node() {
  mkdir -p "$node/home0" "$node/home1"
  printf '%s\n' "$1" >"$node/label"
  cat "$FAKE/first_state" >"$node/state" 2>/dev/null || printf 'READY\n' >"$node/state"
}
remove_node() { mv "$node" "$FAKE/deleted/$(find "$FAKE/deleted" -mindepth 1 -maxdepth 1 | wc -l)"; }
on_worker() { # INDEX COMMAND
  (cd "$node/home$1" && env -i PATH="$PATH" FAKE="$FAKE" NODE="$node" WORKER="$1" HOME="$node/home$1" \
    VIDGEN_STOP_SECONDS=300 bash -c "$2")
}
on_workers() { # COMMAND
  local index code=0
  for index in $(workers); do
    on_worker "$index" "$1" || code=$?
  done
  return "$code"
}
workers() { if [[ "$worker" == all ]]; then printf '0\n1\n'; else printf '%s\n' "$worker"; fi; }
reachable() { [[ -d "$node" && "$(cat "$node/state")" == READY ]] || { echo "ssh: no answer" >&2 && exit 255; }; }

if [[ -s "$FAKE/create_errors" && "$verb" == create ]]; then
  head -n 1 "$FAKE/create_errors" >&2
  sed -i 1d "$FAKE/create_errors"
  exit 1
fi
case "$kind $verb" in
  "tpu-vm list") find "$FAKE/nodes" -mindepth 1 -maxdepth 1 -printf 'projects/p/locations/z/nodes/%f\n' ;;
  "queued-resources list") find "$FAKE/requests" -mindepth 1 -maxdepth 1 -printf 'projects/p/locations/z/%f\n' ;;
  "tpu-vm create")
    [[ ! -d "$node" ]] || { echo "ALREADY_EXISTS" >&2 && exit 1; }
    make_node "$label"
    ;;
  "queued-resources create")
    [[ ! -d "$request" ]] || { echo "ALREADY_EXISTS" >&2 && exit 1; }
    mkdir "$request"
    printf '%s\n' "$label" >"$request/label"
    printf '%s\n' WAITING_FOR_RESOURCES PROVISIONING ACTIVE >"$request/states"
    ;;
  "tpu-vm describe")
    case "$format" in
      "value(state)") cat "$node/state" ;;
      "value(labels.created-by)") cat "$node/label" ;;
      *) exit 1 ;;
    esac
    ;;
  "queued-resources describe")
    case "$format" in
      "value(state.state)")
        # A preempted slice suspends its request; each query advances a request to its next state.
        if [[ -d "$node" && "$(cat "$node/state")" == PREEMPTED ]]; then
          remove_node
          printf 'SUSPENDED\n' >"$request/states"
        fi
        head -n 1 "$request/states" | tee "$request/state"
        [[ "$(wc -l <"$request/states")" == 1 ]] || sed -i 1d "$request/states"
        [[ "$(cat "$request/state")" != ACTIVE || -d "$node" ]] || make_node "$(cat "$request/label")"
        ;;
      "value(tpu.nodeSpec[0].node.labels.created-by)") cat "$request/label" ;;
      *) exit 1 ;;
    esac
    ;;
  "tpu-vm delete") remove_node ;;
  "queued-resources delete")
    [[ ! -d "$node" || -n "$force" ]] || exit 1
    [[ ! -d "$node" ]] || remove_node
    rm -r "$request"
    ;;
  "tpu-vm scp")
    node="$FAKE/nodes/${words[5]%%:*}"
    reachable
    for index in $(workers); do
      cp "${words[4]}" "$node/home$index/${words[5]#*:}"
    done
    ;;
  "tpu-vm ssh")
    reachable
    code=0
    on_workers "$command" | tee "$FAKE/answer" || code=$?
    # Peers of a preempted worker fail before the slice is reported as preempted.
    if [[ -f "$FAKE/late" ]] && grep -q 'exited 134' "$FAKE/answer"; then
      rm "$FAKE/late"
      printf 'PREEMPTED\n' >"$node/state"
    fi
    exit "$code"
    ;;
  *) exit 1 ;;
esac
