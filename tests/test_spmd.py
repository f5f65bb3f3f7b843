"""Eight devices compute what one computes, clip by clip: the train step of every algorithm, replicated, with parameters
split, and with micro-batches cut into parts."""

import dataclasses
import functools
import re
from types import ModuleType

import jax
import numpy as np
import optax
import pytest

from experiments import inbetween_shape_motion, mvt_weizmann, sr_cgan_shape_motion, trivd_shape_motion
from vidgen_jax.core.step import StepConstants
from vidgen_jax.parallel.mesh import MeshConfig
from vidgen_jax.runs import config as configs
from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.runs.experiment import Experiment, build_experiment

# A smaller step compiles faster. One of the two frames between is drawn, for each clip by itself.
CHANGES = {
  trivd_shape_motion: {},
  inbetween_shape_motion: {
    "data.num_frames": 4,
    "algorithm.frames_per_clip": 1,
    "algorithm.encoder_widths": (4,),
    "algorithm.decoder_widths": (4,),
    "algorithm.video_discriminator_widths": (4,),
    "algorithm.image_discriminator_widths": (4,),
  },
  # With the layers of the paper variants, batch normalisation in a discriminator among them.
  mvt_weizmann: {
    "data.num_frames": 4,
    "algorithm.num_classes": 4,
    "algorithm.sequence_spectral_norm": True,
    "algorithm.embedding_spectral_norm": True,
    "algorithm.conditional_bias": True,
    "algorithm.video_discriminator_batch_norm": True,
  },
  # A step of each phase.
  sr_cgan_shape_motion: {"algorithm.image_steps": 1},
}
VARIANTS = {mvt_weizmann: "mvt_mc_smoke"}  # with the motion constraint
STEPS = 2


def _config(module: ModuleType, *, accumulate: int = 1) -> configs.ExperimentConfig:
  fields = module.get_config(VARIANTS.get(module, "smoke"))
  fields.update_from_flattened_dict(CHANGES[module])
  # Adam divides by the gradient's own size, which turns rounding of a vanishing gradient into a full step; a large
  # epsilon makes it smooth, so that states can be compared.
  for name in fields.algorithm:
    if name.endswith("optimizer"):
      fields.algorithm[name].eps = 1.0
  fields.step.accumulate, fields.train.batch_size = accumulate, 8 * accumulate
  config = configs.from_config_dict(fields)
  return dataclasses.replace(config, mesh=MeshConfig(fsdp_min_size=16))


@dataclasses.dataclass
class Run:
  """Some steps of one experiment."""

  config: configs.ExperimentConfig
  text: str
  metrics: list[dict]
  state: dict
  state_shardings: list
  initial: dict


def _run(config: configs.ExperimentConfig, num_devices: int, *, initial: dict | None = None) -> Run:
  experiment = build_experiment(config, devices=jax.devices()[:num_devices])
  if initial is None:
    state = experiment.init_state()
    initial = jax.tree.map(_to_host, state)
  else:
    state = jax.tree.map(_from_host, initial, experiment.abstract_state)
  compiled = {phase: experiment.compile_step(phase) for phase in experiment.algorithm.phases}
  generator = np.random.default_rng(0)
  metrics = []
  for step in range(STEPS):
    batch = experiment.put_batch(_batch(experiment, generator), microbatches=True)
    phase = experiment.algorithm.phase_at(step)
    state, values = compiled[phase](state, batch, experiment.step_constants(step, phase))
    metrics.append({name: float(value) for name, value in values.items()})
  arrays = jax.tree.map(np.asarray, (state.nets, state.ema))
  named = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(arrays)}
  shardings = [leaf.sharding for leaf in jax.tree.leaves(state.nets)]
  text = compiled[phase].as_text()
  return Run(config=config, text=text, metrics=metrics, state=named, state_shardings=shardings, initial=initial)


def _batch(experiment: Experiment, generator: np.random.Generator) -> dict[str, np.ndarray]:
  shapes = experiment.batch_shape()
  return {
    "video": generator.integers(0, 256, shapes["video"].shape, np.uint8),
    "label": generator.integers(0, 2, shapes["label"].shape, np.int32),
  }


def _with_fsdp(config: configs.ExperimentConfig, fsdp: int) -> configs.ExperimentConfig:
  return dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, fsdp=fsdp))


def _to_host(leaf):
  is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _from_host(leaf, abstract):
  is_key = jax.dtypes.issubdtype(abstract.dtype, jax.dtypes.prng_key)
  return jax.device_put(jax.random.wrap_key_data(leaf) if is_key else leaf, abstract.sharding)


@pytest.fixture(
  scope="module",
  params=[
    pytest.param(
      (module, accumulate),
      id=f"{module.__name__.rpartition('.')[2]}-{accumulate}",
      marks=() if (module, accumulate) == (trivd_shape_motion, 1) else pytest.mark.slow,
    )
    for module in CHANGES
    for accumulate in (1, 4)
  ],
)
def one(request) -> Run:
  module, accumulate = request.param
  return _run(_config(module, accumulate=accumulate), 1)


@pytest.fixture(scope="module")
def eight(one) -> Run:
  return _run(one.config, 8, initial=one.initial)


@pytest.fixture(scope="module")
def split(one) -> Run:
  return _run(_with_fsdp(one.config, 4), 8, initial=one.initial)


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


def test_sharded_parameters_equal_replicated_ones(eight, split):
  assert any("fsdp" in str(sharding.spec) for sharding in split.state_shardings)
  assert not any("fsdp" in str(sharding.spec) for sharding in eight.state_shardings)
  _assert_same(eight, split)


def test_devices_that_repeat_clips_change_nothing(one):
  config = dataclasses.replace(one.config, mesh=MeshConfig(repeat_clips=True))
  six = _run(config, 6, initial=one.initial)
  assert dict(six.state_shardings[0].mesh.shape) == {"repeat": 3, "data": 2, "fsdp": 1}
  _assert_same(one, six)


def test_a_checkpoint_of_sharded_parameters_restores_replicated_and_on_fewer_devices(one, tmp_path):
  def placed(fsdp: int, num_devices: int):
    experiment = build_experiment(_with_fsdp(one.config, fsdp), devices=jax.devices()[:num_devices])
    return experiment, lambda: jax.tree.map(_from_host, one.initial, experiment.abstract_state)

  with Checkpointer(str(tmp_path)) as checkpointer:
    _, state = placed(4, 8)
    checkpointer.save(1, state(), {}, {})
    checkpointer.wait()
    for fsdp, num_devices in ((4, 8), (1, 8), (2, 2), (1, 1)):
      experiment, expected = placed(fsdp, num_devices)
      restored = checkpointer.restore(experiment.abstract_state).state
      assert jax.tree.map(lambda x: x.sharding, restored) == jax.tree.map(lambda x: x.sharding, expected())
      for found, value in zip(jax.tree.leaves(restored), jax.tree.leaves(one.initial), strict=True):
        np.testing.assert_array_equal(_to_host(found), value)


def test_compiled_step_reduces_over_all_devices(one, eight):
  reductions = re.findall(r"all-reduce(?:-start)?\(.*replica_groups=(\S+)", eight.text)
  assert reductions, "no all-reduce: batch statistics and gradients would be local"
  everyone = [group for group in reductions if "'axis_0'=8" in group or "[1,8]" in group or "0,1,2,3,4,5,6,7" in group]
  assert everyone, reductions[:3]
  assert "all-reduce" not in one.text


def _gradients(update, params, nets, batch, key):
  """((loss, output), gradients) of an update's loss on one part of a micro-batch."""

  def loss(params):
    trained = {name: nets[name].replace(params=value) for name, value in params.items()}
    return update.loss_fn(nets | trained, {}, batch, key, 0)

  return jax.value_and_grad(loss, has_aux=True)(params)


@pytest.mark.slow
def test_accumulation_on_eight_devices_averages_the_parts_of_inbetween():
  experiment = build_experiment(_config(inbetween_shape_motion, accumulate=2))
  batch = _batch(experiment, np.random.default_rng(0))
  start = experiment.init_state()
  nets, key = jax.tree.map(np.asarray, start.nets), jax.random.fold_in(start.key, start.step)
  still = StepConstants(learning_rates={update.name: np.float32(0) for update in experiment.updates}, frozen={})
  state, metrics = experiment.step_fn("main")(start, experiment.put_batch(batch, microbatches=True), still)

  for index, update in enumerate(experiment.updates):
    gradients = jax.jit(functools.partial(_gradients, update))
    found = []
    for i in range(2):
      part = {name: value[index, i::2] for name, value in batch.items()}
      part_key = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, index), 0), i)
      (loss, output), grads = gradients({name: nets[name].params for name in update.trains}, nets, part, part_key)
      nets = nets | output.nets  # the second part goes on from the statistics that the first one left
      found.append((loss, grads))
    assert found[0][0] != found[1][0]
    loss, grads = jax.tree.map(lambda a, b: (a + b) / 2, *found)
    assert float(metrics[f"{update.name}/loss"]) == pytest.approx(float(loss), rel=1e-5)
    assert float(metrics[f"{update.name}/grad_norm"]) == pytest.approx(float(optax.tree.norm(grads)), rel=1e-4)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state.nets, nets)
