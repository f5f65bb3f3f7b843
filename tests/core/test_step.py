"""The train step on a GAN of two weights, with every number derived by hand.

Plain gradient descent, learning rates 0.1 (disc) and 1 (gen). disc minimises d * mean(video), so its gradient is the
mean of its micro-batch; gen minimises (g - d)^2 / 2, so its gradient is g - d.
"""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest

from vidgen_jax.core.algorithm import LossOutput, Update, num_microbatches
from vidgen_jax.core.ema import EmaConfig
from vidgen_jax.core.state import NetState, TrainState
from vidgen_jax.core.step import StepConfig, StepConstants, train_step
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh


def _disc_loss(nets, frozen, batch, key, step):
  del frozen, step
  mean = jnp.mean(batch["video"])
  refreshed = nets["d"].replace(variables={"count": nets["d"].variables["count"] + 1})
  stray = nets["g"].replace(variables={"count": jnp.float32(-1.0)})
  metrics = {"mean": mean, "noise": jax.random.uniform(key)}
  return nets["d"].params["w"] * mean, LossOutput(nets={"d": refreshed, "g": stray}, metrics=metrics)


def _gen_loss(nets, frozen, batch, key, step):
  del frozen, key, step
  gap = nets["g"].params["w"] - nets["d"].params["w"]
  metrics = {"mean": jnp.mean(batch["video"])}
  return gap**2 / 2, LossOutput(nets={"g": nets["g"].replace(variables={"count": jnp.float32(5.0)})}, metrics=metrics)


UPDATES = (
  Update(
    name="disc",
    trains=("d",),
    refreshes=("d",),
    loss_fn=_disc_loss,
    optimizer=optax.identity(),
    learning_rate=lambda step: 0.1,
    repeats=2,
  ),
  Update(
    name="gen",
    trains=("g",),
    refreshes=("g",),
    loss_fn=_gen_loss,
    optimizer=optax.identity(),
    learning_rate=lambda step: 1.0,
  ),
)


def _state() -> TrainState:
  nets = {
    "d": NetState(params={"w": jnp.float32(2.0)}, variables={"count": jnp.float32(0.0)}),
    "g": NetState(params={"w": jnp.float32(10.0)}, variables={"count": jnp.float32(0.0)}),
  }
  opt_states = {
    update.name: update.optimizer.init({name: nets[name].params for name in update.trains}) for update in UPDATES
  }
  return TrainState(step=jnp.int32(0), key=jax.random.key(0), nets=nets, opt_states=opt_states, ema={"g": nets["g"]})


def _step(state: TrainState, config: StepConfig, mesh: jax.sharding.Mesh | None = None):
  # Micro-batches with means 1, 3 and 100, of four clips each.
  video = jnp.array([[0.0, 2.0, 1.0, 1.0], [2.0, 4.0, 3.0, 3.0], [100.0, 100.0, 100.0, 100.0]])
  rates = {update.name: jnp.float32(update.learning_rate(0)) for update in UPDATES}
  ema = EmaConfig(decay=0.5, start_step=0)
  run = jax.jit(functools.partial(train_step, updates=UPDATES, ema=ema, config=config, mesh=mesh))
  return run(state, {"video": video}, StepConstants(learning_rates=rates, frozen={}))


@pytest.mark.parametrize("config", [StepConfig(), StepConfig(accumulate=2)], ids=str)
@pytest.mark.parametrize("devices", [1, 8])
def test_updates_run_in_order_on_their_own_micro_batches(config, devices):
  # The four clips occupy four devices, or two in two parts; the other devices repeat them.
  mesh_config, batch_size = MeshConfig(repeat_clips=True), 4 // config.accumulate
  mesh = make_mesh(mesh_config, devices=jax.devices()[:devices], batch_size=batch_size)
  state, metrics = _step(_state(), config, mesh)
  # d: 2 - 0.1 * 1 - 0.1 * 3 = 1.6; g sees the new d: 10 - (10 - 1.6) = 1.6.
  assert float(state.nets["d"].params["w"]) == pytest.approx(1.6)
  assert float(state.nets["g"].params["w"]) == pytest.approx(1.6, rel=1e-5)
  assert float(metrics["disc/mean"]) == pytest.approx(2.0)  # the mean over both repeats
  assert float(metrics["gen/mean"]) == pytest.approx(100.0)
  assert float(metrics["disc/grad_norm"]) == pytest.approx(2.0)
  assert float(metrics["gen/grad_norm"]) == pytest.approx(8.4, rel=1e-5)
  assert float(state.ema["g"].params["w"]) == pytest.approx(0.5 * 10 + 0.5 * 1.6)
  assert int(state.step) == 1


def test_only_refreshed_nets_are_written_back():
  state, _ = _step(_state(), StepConfig())
  assert float(state.nets["d"].variables["count"]) == 2.0  # one for each repeat
  assert float(state.nets["g"].variables["count"]) == 5.0  # gen's, not the -1 that disc returned


def test_accumulated_parts_refresh_in_sequence():
  state, _ = _step(_state(), StepConfig(accumulate=2))
  assert float(state.nets["d"].variables["count"]) == 4.0  # two parts in each of two repeats


def test_keys_differ_between_repeats_and_steps_and_the_root_key_is_unchanged():
  first, metrics = _step(_state(), StepConfig())
  second, later = _step(first, StepConfig())
  root = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 0)
  by_hand = [float(jax.random.uniform(jax.random.fold_in(root, repeat))) for repeat in range(2)]
  assert float(metrics["disc/noise"]) == pytest.approx(sum(by_hand) / 2)
  assert float(later["disc/noise"]) != float(metrics["disc/noise"])
  assert jnp.array_equal(jax.random.key_data(second.key), jax.random.key_data(jax.random.key(0)))


def test_number_of_micro_batches():
  assert num_microbatches(UPDATES) == 3
