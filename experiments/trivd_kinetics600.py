"""TrIVD-GAN-FP on Kinetics-600, the paper's main result (Table 3), and its other models of these data.

VARIANT           published FVD                 K steps      GFLOP  chip-hours
paper             test 25.74 +- 0.66 (Table 3)      700  5,957,797      31,400
paper_48          UCF-101 test 95.8 (C.2)         1,000    956,780       7,200
dvd_gan_fp_48     UCF-101 test 117 (C.2)          1,000    936,790       7,050
mixed_projection  validation 55.0 (E.1)             700    936,790       4,940
projection        validation 64.2 (E.1)             700    936,790       4,940

`paper` is the final model: ch 120, batch size 512, inception score 12.54 +- 0.06; the paper used 32 to 512 TPU v3. On
UCF-101 it has FVD 67.7: `vidgen evaluate --data=ucf101`. The others have ch 48: `paper_48` with the same discriminators
and TSRU_p, the rest with those of DVD-GAN-FP and ConvGRU. The comparisons of 4.2 and 4.3 are `trivd_table1.py` and
`trivd_table2.py`.

Data: `vidgen data build kinetics600 --source=FOLDER --size=64 --encoding=png`, by the official lists; for UCF-101 see
`trivd_ucf101.py`. GFLOP per step, and chip-hours of TPU v3 at 30 % of its peak, are estimates of `vidgen bench
--estimate`. On 32 TPU v3 cores `paper` needs --config.mesh.fsdp=8 (docs/several_hosts.md). Not trained at paper size.

Variants: paper, paper_48, dvd_gan_fp_48, mixed_projection, projection, cpu, smoke.
"""

import ml_collections

from vidgen_jax.gans.presets import FORMS, unknown_variant
from vidgen_jax.gans.trivd import presets
from vidgen_jax.runs.config import template

# C.2 scores models of Kinetics on UCF-101; standing statistics and the choice of the checkpoint stay with Kinetics.
ON_UCF101 = {"train.num_steps": 1_000_000, "evaluation.data": "ucf101"}
COMPARED_HEADS = {**presets.DVD_GAN_FP, "evaluation.split": "validation"}
MEDIUM = {
  "paper_48": ON_UCF101,
  "dvd_gan_fp_48": presets.DVD_GAN_FP | ON_UCF101,
  "mixed_projection": COMPARED_HEADS,
  "projection": COMPARED_HEADS | {"algorithm.head": "projection"},
}
"""Changes of the final model at ch 48, by variant."""

VARIANTS = ("paper", *MEDIUM, "cpu", "smoke")


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  if variant not in VARIANTS:
    raise unknown_variant(variant, choices=VARIANTS)
  config = template("trivd")
  config.name = f"trivd_kinetics600:{variant}"
  config.data.name = "kinetics600"
  if variant in FORMS:
    presets.configure(config, variant)
  else:
    presets.configure(config, "paper", channels=48)
    config.update_from_flattened_dict(MEDIUM[variant])
  return config
