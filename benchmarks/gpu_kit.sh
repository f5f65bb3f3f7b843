#!/usr/bin/env bash
# Measures speed on a machine with one GPU and without a network: train steps, a short training, a feature network and
# forms of convolution; train steps and network also in PyTorch, if it is installed. See docs/results.md.
#   bash benchmarks/gpu_kit.sh --prepare      on a machine with a network: builds .gpu/wheels and .gpu/data
#   bash benchmarks/gpu_kit.sh                on the GPU machine, with these two folders: measures, and prints tables
#   bash benchmarks/gpu_kit.sh --rehearsal    runs all sections with tiny sizes on the CPU
#
#   --out=DIR        folder of the results (default: benchmarks/results/gpu; in a rehearsal .gpu/rehearsal). Logs,
#                    checkpoints and caches are in .gpu/work; in a rehearsal in OUT/work
#   --minutes=N      total time (default: 12; in a rehearsal 60)
#
# A failed part is recorded, and the next one runs. A section whose time limits do not fit is left for the next call. A
# section with a result file is skipped: delete it and SECTION.* of the work folder to repeat it.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
mode=gpu out="" minutes=""
for word in "$@"; do
  case "$word" in
    --prepare | --rehearsal) mode="${word#--}" ;;
    --help | -h) sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;;
    --out=*) out="$(realpath -m "${word#*=}")" ;;
    --minutes=*) minutes="${word#*=}" ;;
    *) printf 'gpu_kit: error: unknown option %s\n' "$word" >&2; exit 2 ;;
  esac
done
[[ "$minutes" =~ ^([1-9][0-9]*)?$ ]] || { printf 'gpu_kit: error: --minutes=%s is no number of minutes\n' "$minutes" >&2; exit 2; }
cd "$root"
python="$(command -v "${VIDGEN_VENV:-$root/.venv}/bin/python" || command -v python3)"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
say() { printf '== %4d s  %s\n' "$SECONDS" "$*"; }
build_data() { "$python" -m vidgen_jax data build shape_motion --num_clips="$1" --data_dir="$2"; }

if [[ "$mode" == prepare ]]; then
  mkdir -p .gpu/wheels
  "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version=3.12 --platform=any \
    --platform=manylinux_2_28_x86_64 --platform=manylinux_2_24_x86_64 --platform=manylinux_2_17_x86_64 \
    --platform=manylinux2014_x86_64 --constraint=launch/constraints-py312.txt --dest=.gpu/wheels \
    array_record av clu dm-tree docstring_parser etils grain immutabledict ml_collections portpicker \
    simple-parsing tensorflow-datasets tensorflow-metadata termcolor toml
  "$python" -m pip wheel --quiet --no-deps --wheel-dir=.gpu/wheels promise  # It has no wheel in the index.
  [[ -d .gpu/data/shape_motion ]] || build_data 2000 .gpu/data
  du -sh .gpu/wheels .gpu/data
  exit
fi
# The model of `trivd_shape_motion.py:cpu`, with a stage more for frames of 64x64.
training=(--config=trivd_shape_motion.py:cpu --config.data.resolution=64 --config.train.batch_size=16
  --config.algorithm.generator_multipliers='(4, 2, 1)' --config.algorithm.upsampled_multipliers='(4, 2, 1)'
  --config.algorithm.discriminator_multipliers='(1, 2, 4, 8)'
  --config.algorithm.generator_optimizer.learning_rate=5e-4
  --config.algorithm.discriminator_optimizer.learning_rate=1e-3 --config.data.workers=8 --config.data.num_threads=1
  --config.data.prefetch=16 --config.train.num_steps=1000000 --config.train.evaluate_every=500
  --config.train.image_every=2000 --config.train.checkpoint_every=2000)
if [[ "$mode" == gpu ]]; then
  out="${out:-$root/benchmarks/results/gpu}" work="$root/.gpu/work" data=.gpu/data minutes="${minutes:-12}"
  platform=cuda,cpu form=paper mvt=mvt_tsa clips=128 longest=240 shapes=300
  torch=(--device=cuda --dtype=bfloat16 --channels_last --steps=5 --rounds=4) compile=(--torch_compile)
  steps=10 shrink=1 pair=(--device=cuda --batch=16)
  network=(--network=i3d --clip=16x64x64x3 --clips=256 --batch_size=16)
else
  out="${out:-$root/.gpu/rehearsal}" work="$out/work" minutes="${minutes:-60}"
  platform=cpu form=smoke mvt=mvt_tsa_smoke clips=8 longest=600 shapes=5 data="$work/data"
  torch=(--device=cpu --dtype=float32 --channels_last --steps=1 --rounds=1) compile=()
  steps=1 shrink=64 pair=(--batch=1 --repeats=1) training=(--config=trivd_shape_motion.py:smoke)
  network=(--network=r3d18 --width=4 --clip=4x16x16x3 --clips=4 --batch_size=2)
  export XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true ${XLA_FLAGS:-}"
fi
# The first one's `paper` has the decomposition `stronger` and the unit TSRU_p at ch 48.
declare -A experiments=([trivd]="trivd_shape_motion.py:$form" [inbetween]="inbetween_bair.py:$form"
  [mvt]="mvt_weizmann.py:$mvt")
mkdir -p "$out" "$work"
export JAX_PLATFORMS="$platform" JAX_COMPILATION_CACHE_DIR="$work/cache" XLA_PYTHON_CLIENT_MEM_FRACTION=0.92
if ! "$python" -c 'import array_record, av, clu, grain, ml_collections, tensorflow_datasets' 2>/dev/null; then
  # A virtual environment would not see jax if that is in a virtual environment itself.
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target="$work/site" .gpu/wheels/*.whl
  export PYTHONPATH="$PYTHONPATH:$work/site"
fi
[[ -d "$data" || "$mode" == gpu ]] || build_data 40 "$data" >"$work/data.log" 2>&1
no_torch="$("$python" -c 'import torch' 2>/dev/null || echo 1)"

# Guaranteed seconds of each part; time that earlier parts leave is added. The sum stays below 12 minutes.
declare -A limits=([trivd.ours]=225 [trivd.torch]=60 [trivd.eager]=20 [inbetween.ours]=45 [inbetween.torch]=25
  [mvt.ours]=50 [mvt.torch]=25 [training.ours]=115 [training.scores]=30 [i3d.ours]=30 [i3d.torch]=30
  [convolutions.ours]=50)
reserved=0
for seconds in "${limits[@]}"; do reserved=$((reserved + seconds)); done
limits+=([batch512.ours]=150 [batch256.ours]=150)  # only with time that everything else has left
bench() { command=("$python" -m vidgen_jax bench "$@" --config.algorithm.compute_dtype=bfloat16 --no_data --no_loop
  --steps="$steps" --out="$figures"); }
torch_step() { command=("$python" benchmarks/torch_step.py "$@" --framework=torch "${torch[@]}" --out="$figures"); }

# Sets `command` and `options`, those of `timeout`, for a part that gets some seconds.
choose() {
  local figures="$work/$1.jsonl" seconds="$2" section="${1%.*}"
  local config="${experiments[${section/batch*/trivd}]:-}"
  options=(--preserve-status --kill-after=10)
  case "$1" in
    training.ours) options+=(--foreground)  # SIGTERM saves its state, but must not reach its data workers.
      command=("$python" -m vidgen_jax train "${training[@]}" --config.data.data_dir="$data" --workdir="$work/run") ;;
    training.scores) command=("$python" -m vidgen_jax evaluate --workdir="$work/run" --num_clips="$clips") ;;
    i3d.ours) command=("$python" benchmarks/extraction.py "${network[@]}" --out="$figures") ;;
    i3d.torch) command=(env XLA_PYTHON_CLIENT_PREALLOCATE=false "$python" -m benchmarks.i3d_pytorch "${pair[@]}"
      --out="$figures") ;;
    convolutions.ours) command=("$python" benchmarks/convolution_forms.py --out="$figures"
      --configs="${experiments[trivd]},${experiments[inbetween]},${experiments[mvt]}"
      --seconds="$((seconds > shapes ? shapes : seconds - 25))") ;;
    batch*) bench --config="$config" --config.train.batch_size="$((${section//[!0-9]/} / shrink))" ;;
    *.ours) bench --config="$config" ;;
    *.torch) torch_step --config="$config" "${compile[@]}" ;;
    *.eager) torch_step --config="$config" ;;
  esac
}
# Runs a part for at most some seconds; writes its status, duration, limit and command to WORK/PART.part.
timed() {
  local part="$1" seconds="$2" begin=$SECONDS status=0
  choose "$part" "$seconds"
  say "$part, at most $seconds s"
  if [[ -n "$no_torch" && "$part" =~ (torch|eager)$ ]]; then
    status="no PyTorch"
  else
    timeout "${options[@]}" "$seconds" "${command[@]}" >"$work/$part.log" 2>&1 || status=$?
  fi
  printf '%s\n' "$status" "$((SECONDS - begin))" "$seconds" "${command[*]}" >"$work/$part.part"
}
# section NAME PART...: runs the parts that have no result, if there is time for all of them.
section() {
  local name="$1" needed=0 part seconds
  shift
  for part in "$@"; do needed=$((needed + limits[$name.$part])); done
  reserved=$((reserved > needed ? reserved - needed : 0))
  if [[ -e "$out/$name.json" ]]; then
    say "$name: has a result"
  elif ((60 * minutes - SECONDS < needed)); then
    say "$name: too little time left; call this script again"
  else
    for part in "$@"; do
      needed=$((needed - limits[$name.$part]))
      seconds=$((60 * minutes - SECONDS - reserved - needed))
      seconds=$((seconds > limits[$name.$part] ? seconds : limits[$name.$part]))
      [[ "$name.$part" == training.ours && $seconds -gt $longest ]] && seconds=$longest
      [[ -e "$work/$name.$part.part" ]] || timed "$name.$part" "$seconds"
    done
    "$python" benchmarks/gpu_summary.py record "$name" "$@" --work="$work" --out="$out" || say "$name: no result"
  fi
}

section trivd ours torch eager
for name in inbetween mvt; do section "$name" ours torch; done
section training ours scores
section i3d ours torch
for name in convolutions batch512; do section "$name" ours; done
if [[ -e "$out/batch512.json" ]] && ! grep -q '"rc": 0' "$out/batch512.json"; then section batch256 ours; fi
"$python" benchmarks/gpu_summary.py table --out="$out" | tee "$out/tables.md"
