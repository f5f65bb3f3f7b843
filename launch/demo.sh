#!/usr/bin/env bash
# Complete example on Shape Motion: builds the data, trains TrIVD-GAN (variant `cpu`), scores it and the copy-last
# baseline, exports it, samples from the export, and lists the resulting files. If it is interrupted, start it again.
#
#   DEMO_STEPS   train steps              (default: 700)
#   DEMO_CLIPS   clips of the data set    (default: 2000)
#   DEMO_DIR     folder of all outputs    (default: runs/demo)
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bash "$root/launch/setup.sh"
cd "$root"

steps="${DEMO_STEPS:-700}"
clips="${DEMO_CLIPS:-2000}"
folder="${DEMO_DIR:-runs/demo}"
data="$folder/data"
workdir="$folder/trivd_${steps}_steps"
export_folder="$folder/export"
samples="$folder/samples"

say() { printf '\n== %s\n' "$*"; }
vidgen() { "${VIDGEN_VENV:-$root/.venv}/bin/python" -m vidgen_jax "$@"; }
newest() { find "$1" -type f -name "$2" -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n 1 | cut -d ' ' -f 2-; }

say "1/5 data: $clips clips of moving shapes"
vidgen data build shape_motion --num_clips="$clips" --data_dir="$data"

say "2/5 training: $steps steps"
vidgen train --config=experiments/trivd_shape_motion.py:cpu --workdir="$workdir" \
  --config.data.data_dir="$data" --config.train.num_steps="$steps"

say "3/5 scores"
vidgen evaluate --workdir="$workdir" --num_clips=128

say "4/5 export"
vidgen export --workdir="$workdir" --out="$export_folder" --overwrite

say "5/5 samples from the export"
vidgen sample --export="$export_folder" --data_dir="$data" --out="$samples" --overwrite

say "done in $SECONDS s"
printf 'contact sheet  %s\n' "$(newest "$samples" '*.png')"
printf 'GIF            %s\n' "$(newest "$samples" '*.gif')"
printf 'scores         %s\n' "$(newest "$workdir" 'scores*')"
