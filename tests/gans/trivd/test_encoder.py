"""The encoder: shapes, and the effect of each conditioning frame on the states."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.gans.trivd.generator import Encoder, fold_time
from vidgen_jax.nn.biggan import DiscriminatorBlock


def test_fold_time_keeps_the_channels_of_a_frame_adjacent():
  x = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 2)).astype(np.float32)
  folded = fold_time(jnp.asarray(x))
  assert folded.shape == (2, 4, 5, 6)
  for t, c in np.ndindex(3, 2):
    np.testing.assert_array_equal(folded[..., 2 * t + c], x[:, t, :, :, c])


@pytest.mark.parametrize("resolution", [32, 64])
@pytest.mark.parametrize("remat", [False, True])
def test_states_are_ordered_coarsest_first(resolution, remat):
  encoder = Encoder((4, 8, 16), (12, 6, 3), remat=remat)
  init = functools.partial(encoder.init_with_output, train=True)
  frames = jax.ShapeDtypeStruct((2, 5, resolution, resolution, 3), jnp.float32)
  states, variables = jax.eval_shape(init, jax.random.key(0), frames)
  r = resolution
  assert [state.shape for state in states] == [(2, r // 8, r // 8, 12), (2, r // 4, r // 4, 6), (2, r // 2, r // 2, 3)]
  assert set(variables["params"]) == {"block_0", "block_1", "block_2", "state_0", "state_1", "state_2"}


def test_a_state_depends_on_all_frames_in_order():
  encoder = Encoder((2, 3), (4, 5), spectral_norm=False)
  frames = np.random.default_rng(0).normal(size=(2, 3, 8, 8, 1)).astype(np.float32)
  apply = functools.partial(encoder.apply, train=False)
  shapes = jax.eval_shape(functools.partial(encoder.init, train=False), jax.random.key(0), frames)["params"]
  rng = np.random.default_rng(1)
  params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
  # The finer state's convolution selects channel c of frame t for its output o.
  selected = {0: (0, 0), 1: (2, 1), 2: (1, 0), 3: (1, 1), 4: (2, 0)}
  kernel = np.zeros((3, 3, 6, 5), np.float32)
  for o, (t, c) in selected.items():
    kernel[1, 1, 2 * t + c, o] = 1
  params["state_0"] = {"kernel": kernel, "bias": np.zeros(5, np.float32)}
  coarse, fine = jax.jit(apply)({"params": params}, frames)
  assert (coarse.shape, fine.shape) == ((2, 2, 2, 4), (2, 4, 4, 5))

  block = DiscriminatorBlock(2, preactivation=False, spectral_norm=False)
  apply_block = jax.jit(lambda frame: block.apply({"params": params["block_0"]}, frame, False))
  alone = [apply_block(frames[:, t : t + 1])[:, 0] for t in range(3)]
  for o, (t, c) in selected.items():
    np.testing.assert_allclose(fine[..., o], np.maximum(alone[t][..., c], 0), rtol=1e-4, atol=1e-5)
