#!/usr/bin/env bash
# A fake Python of a worker. Worker 0 counts 8 steps in a file of the bucket, which survives the slice. Lines
# `STEP EVENT` of $FAKE/plan define events after steps. Worker 1 exits with the status of worker 0.
set -euo pipefail
printf '%s\n' "$*" >>"$FAKE/runs"
printf '%s\n' "$JAX_COMPILATION_CACHE_DIR" >>"$FAKE/caches"
[[ -f launch/local.sh ]] # Runs start in the checkout.
run="$PWD/bucket/run"
mkdir -p "$run"
touch "$run/steps"
# Both workers start equally often on a slice, so the number of starts names the file with their common exit status.
echo >>"$HOME/starts"
code_file="$NODE/code$(wc -l <"$HOME/starts")"
state() { cat "$NODE/state" 2>/dev/null || printf 'MISSING'; }

if [[ "$WORKER" != 0 ]]; then
  for _ in {1..12000}; do
    [[ "$(state)" == READY ]] || exit 134
    if [[ -s "$code_file" ]]; then
      exit "$(cat "$code_file")"
    fi
    sleep 0.05
  done
  exit 1
fi

finish() {
  printf '%s\n' "$1" >"$code_file"
  exit "$1"
}
[[ -f "$FAKE/deaf" ]] || trap 'echo saved; finish 75' TERM
while (($(wc -l <"$run/steps") < 8)); do
  printf '%s\n' "$$" >>"$run/steps"
  step="$(wc -l <"$run/steps")"
  echo "step $step"
  case "$(sed -n "s/^$step //p" "$FAKE/plan" 2>/dev/null)" in
    preempt)
      printf 'PREEMPTED\n' >"$NODE/state"
      kill -KILL "$PPID"
      exit 137
      ;;
    lost)
      printf '134\n' >"$code_file"
      kill -KILL "$PPID"
      exit 137
      ;;
    wait)
      for _ in {1..12000}; do
        [[ "$(state)" == READY ]] || exit 1
        sleep 0.05
      done
      ;;
    break)
      touch "$FAKE/broken"
      finish 75
      ;;
    [0-9]*) finish "$(sed -n "s/^$step //p" "$FAKE/plan")" ;;
  esac
  sleep 0.02
done
finish 0
