"""Compares the speed of the Flax I3D with the same network in PyTorch, with the same weights.

  python -m benchmarks.i3d_pytorch --frames 16 --batch 2 --repeats 5

The two take turns, so that other work on the machine affects both; medians are compared.
"""

import argparse
import json
import sys
from pathlib import Path

import jax
import numpy as np
import torch

from tests.parity import mapping, torch_networks
from tests.parity.timing import alternating_medians
from vidgen_jax.scores.networks import I3D


def main() -> None:
  """Runs the benchmark."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--frames", type=int, default=16)
  parser.add_argument("--batch", type=int, default=2)
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--torch_threads", type=int, default=0, help="0 for PyTorch's own choice")
  parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of PyTorch; JAX uses its default")
  parser.add_argument("--out", type=Path, help="file for the figures, one JSON object per line")
  flags = parser.parse_args()
  # The Flax network multiplies in full float32; PyTorch's convolutions use TF32 on GPUs by default.
  torch.backends.cudnn.allow_tf32 = False
  torch.backends.cudnn.benchmark = True
  if flags.torch_threads:
    torch.set_num_threads(flags.torch_threads)

  video = np.random.default_rng(0).uniform(-1, 1, (flags.batch, flags.frames, 224, 224, 3)).astype(np.float32)
  reference = torch_networks.build(torch_networks.I3D(), seed=0, unit_gain=True)
  network = I3D()
  shapes = jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct(video.shape, np.float32))
  weights = mapping.to_flax(reference.state_dict(), shapes, mapping.i3d_name, unused=lambda n: n.endswith("bn.weight"))
  apply = jax.jit(network.apply)
  variables, on_device = jax.device_put((weights, video))
  reference = reference.to(flags.device)
  channels_first = torch.from_numpy(video).permute(0, 4, 1, 2, 3).contiguous().to(flags.device)

  def run_torch() -> np.ndarray:
    with torch.inference_mode():
      return reference(channels_first)[0].cpu().numpy()

  def run_flax() -> np.ndarray:
    return np.asarray(apply(variables, on_device).logits)

  expected = run_torch()
  difference = np.abs(run_flax() - expected).max() / np.abs(expected).max()
  medians = alternating_medians({"flax": run_flax, "torch": run_torch}, flags.repeats)
  lines = [
    f"I3D, {flags.batch} clips of {flags.frames} frames of 224x224, float32, {jax.default_backend()}; "
    f"torch {torch.__version__} on {torch.get_num_threads()} CPU threads; median of {flags.repeats}",
    *(f"{name:<6} {seconds:8.3f} s  {flags.batch / seconds:7.3f} clips/s" for name, seconds in medians.items()),
    f"flax / torch: {medians['torch'] / medians['flax']:.2f} times the speed; logits differ by {difference:.1e}",
  ]
  sys.stdout.write("\n".join(lines) + "\n")
  if flags.out:
    shared = {"batch": flags.batch, "frames": flags.frames, "device": jax.devices()[0].device_kind}
    rows = [{"framework": name, "clips_per_s": flags.batch / s, **shared} for name, s in medians.items()]
    flags.out.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
  main()
