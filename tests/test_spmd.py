"""Eight devices compute what one computes: TrIVD-GAN's train step, replicated and with parameters split."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from vidgen_jax import config as configs
from vidgen_jax import experiment as experiments
from vidgen_jax.parallel.mesh import MeshConfig

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "trivd_shape_motion.py"
STEPS = 2


def _config(fsdp: int = 1) -> configs.ExperimentConfig:
  spec = importlib.util.spec_from_file_location("experiment_file", EXPERIMENT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  fields = module.get_config("smoke")
  # Adam divides by the gradient's own size, which turns rounding of a vanishing gradient into a full step; a large
  # epsilon makes it smooth, so that states can be compared.
  fields.algorithm.generator_optimizer.eps = 1.0
  fields.algorithm.discriminator_optimizer.eps = 1.0
  fields.algorithm.unroll = fields.step.unroll = False
  config = configs.from_config_dict(fields)
  return dataclasses.replace(config, mesh=MeshConfig(fsdp=fsdp, fsdp_min_size=16))


@dataclasses.dataclass
class Run:
  """Some steps of one experiment."""

  text: str
  metrics: list[dict]
  state: dict
  state_shardings: list
  initial: dict


def _run(num_devices: int, *, fsdp: int = 1, initial: dict | None = None) -> Run:
  experiment = experiments.build(_config(fsdp), devices=jax.devices()[:num_devices])
  if initial is None:
    state = experiment.init_state()
    initial = jax.tree.map(_to_host, state)
  else:
    state = jax.tree.map(_from_host, initial, experiment.abstract_state)
  compiled = experiment.compile_step("main")
  shapes = experiment.batch_shape()
  generator = np.random.default_rng(0)
  metrics = []
  for step in range(STEPS):
    batch = {
      "video": generator.integers(0, 256, shapes["video"].shape, np.uint8),
      "label": generator.integers(0, 2, shapes["label"].shape, np.int32),
    }
    batch = experiment.put_batch(batch, microbatches=True)
    state, values = compiled(state, batch, experiment.learning_rates(step, "main"))
    metrics.append({name: float(value) for name, value in values.items()})
  arrays = jax.tree.map(np.asarray, (state.nets, state.ema))
  named = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(arrays)}
  shardings = [leaf.sharding for leaf in jax.tree.leaves(state.nets)]
  text = compiled.as_text()
  return Run(text=text, metrics=metrics, state=named, state_shardings=shardings, initial=initial)


def _to_host(leaf):
  is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _from_host(leaf, abstract):
  is_key = jax.dtypes.issubdtype(abstract.dtype, jax.dtypes.prng_key)
  return jax.device_put(jax.random.wrap_key_data(leaf) if is_key else leaf, abstract.sharding)


@pytest.fixture(scope="module")
def one() -> Run:
  return _run(1)


@pytest.fixture(scope="module")
def eight(one) -> Run:
  return _run(8, initial=one.initial)


@pytest.fixture(scope="module")
def split(one) -> Run:
  return _run(8, fsdp=4, initial=one.initial)


def _assert_same(first: Run, second: Run) -> None:
  for mine, other in zip(first.metrics, second.metrics, strict=True):
    assert mine.keys() == other.keys()
    for name, value in mine.items():
      assert other[name] == pytest.approx(value, rel=2e-4, abs=2e-4), name
  assert first.state.keys() == second.state.keys()
  for name, value in first.state.items():
    np.testing.assert_allclose(second.state[name], value, rtol=1e-3, atol=2e-4, err_msg=name)


def test_eight_devices_equal_one_in_losses_parameters_and_batch_statistics(one, eight):
  assert any("batch_stats" in name for name in one.state)
  _assert_same(one, eight)


def test_split_parameters_equal_replicated_ones(eight, split):
  assert any("fsdp" in str(sharding.spec) for sharding in split.state_shardings)
  assert not any("fsdp" in str(sharding.spec) for sharding in eight.state_shardings)
  _assert_same(eight, split)


def test_compiled_step_reduces_over_all_devices(one, eight):
  reductions = re.findall(r"all-reduce(?:-start)?\(.*replica_groups=(\S+)", eight.text)
  assert reductions, "no all-reduce: batch statistics and gradients would be local"
  everyone = [group for group in reductions if "'axis_0'=8" in group or "[1,8]" in group or "0,1,2,3,4,5,6,7" in group]
  assert everyone, reductions[:3]
  assert "all-reduce" not in one.text
