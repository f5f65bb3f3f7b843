"""Classifiers that compile in a second, and clips that they can learn."""

import io
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from vidgen_jax.ops.devices import device_axes
from vidgen_jax.scores.networks.layers import ClassifierOutput, Dropout

SIZE = 6
NUM_TRAIN, NUM_TEST = 12, 10
"""Number of clips of each class."""


class TinyClassifier(nn.Module):
  """One 3-D convolution with batch statistics and dropout."""

  num_classes: int
  width: int = 4
  dropout: float = 0.0

  @nn.compact
  def __call__(self, video: jax.Array, *, train: bool = False) -> ClassifierOutput:
    """float32[B, T, H, W, 3] -> logits and features."""
    x = nn.Conv(self.width, (2, 3, 3), strides=(1, 2, 2))(video)
    norm = nn.BatchNorm(use_running_average=not train, momentum=0.8, axis_name=device_axes() or None)
    x = nn.relu(norm(x))
    features = x.mean(axis=(1, 2, 3))
    dropped = Dropout(self.dropout)(features, train=train)
    return ClassifierOutput(nn.Dense(self.num_classes)(dropped), features)


def write_clips(folder: Path, levels: dict[str, tuple[int, int]], *, noise: float = 20.0, seed: int = 0) -> None:
  """Writes strips of 4 frames to train/ and test/; the grey level of a class changes from one value to another."""
  generator = np.random.default_rng(seed)
  for split, count in (("train", NUM_TRAIN), ("test", NUM_TEST)):
    for name, (first, last) in levels.items():
      target = folder / split / name
      target.mkdir(parents=True, exist_ok=True)
      for clip in range(count):
        ramp = np.linspace(first, last, 4)[:, None, None, None]
        frames = ramp + generator.normal(0, noise, (4, SIZE, SIZE, 3))
        buffer = io.BytesIO()
        pixels = np.clip(np.concatenate(list(frames), axis=1), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        (target / f"{clip}.png").write_bytes(buffer.getvalue())


class OneWeight(nn.Module):
  """Logits (0, w x) for a clip whose pixels, scaled to [-1, 1], have the mean x."""

  @nn.compact
  def __call__(self, video: jax.Array, *, train: bool = False) -> ClassifierOutput:
    del train
    scaled = self.param("w", nn.initializers.zeros, ()) * video.mean(axis=(1, 2, 3, 4))
    return ClassifierOutput(jnp.stack([jnp.zeros_like(scaled), scaled], axis=1), None)


def grey_clips(pixels: list[int]) -> np.ndarray:
  """Clips of one grey pixel each: uint8[B, 1, 1, 1, 3]."""
  return np.repeat(np.array(pixels, np.uint8), 3).reshape(-1, 1, 1, 1, 3)
