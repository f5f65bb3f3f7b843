#!/usr/bin/env bash
# Stands for the Python of a worker. Worker 0 counts steps in a file of the bucket, which outlives the slice, up to 8;
# $FAKE/plan has lines `STEP WHAT`: what happens to the run after that step. Worker 1 ends as worker 0 does.
set -euo pipefail
printf '%s\n' "$*" >>"$FAKE/runs"
[[ -f launch/local.sh ]] # Runs start in the checkout: experiments have relative paths.
run="$PWD/bucket/run"
mkdir -p "$run"
touch "$run/steps"
# Both workers start equally often on a slice: this names the file by which they end together.
echo >>"$HOME/starts"
code_file="$NODE/code$(wc -l <"$HOME/starts")"
state() { cat "$NODE/state" 2>/dev/null || printf 'MISSING'; }

if [[ "$WORKER" != 0 ]]; then
  for _ in {1..600}; do
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
      for _ in {1..600}; do
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
