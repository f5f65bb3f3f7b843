"""A classifier in training: its arrays, and what a train step does with them."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vidgen_jax.core.state import NetState
from vidgen_jax.parallel import mesh as meshes
from vidgen_jax.scores.classifier.config import ClassifierConfig
from vidgen_jax.scores.classifier.network import network_input
from vidgen_jax.types import PRNGKey

MOMENTUM = 0.9


@flax.struct.dataclass
class ClassifierState:
  """Everything that a checkpoint must hold to continue bitwise, but for the schedule."""

  step: jax.Array
  """int32[], completed train steps."""
  key: PRNGKey
  """The root key; folded with the step, never split in place."""
  net: NetState
  """The live network."""
  opt_state: optax.OptState
  best: NetState
  """The network after the epoch with the best test accuracy; the initial one before that."""


def make_optimizer(config: ClassifierConfig) -> optax.GradientTransformation:
  """The direction of a step, without the learning rate and its sign."""
  decay = optax.add_decayed_weights(
    config.weight_decay, mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
  )
  if config.optimizer == "adam":
    return optax.chain(optax.scale_by_adam(), decay)
  return optax.chain(decay, optax.trace(decay=MOMENTUM))


class ClassifierSteps:
  """Compiled functions over a mesh: parameters are on every device, batches are split. Holds no arrays.

  Args:
    config: of the training.
    network: the classifier.
    mesh: the devices.
  """

  def __init__(self, config: ClassifierConfig, network: nn.Module, mesh: jax.sharding.Mesh):
    self._config = config
    self._network = network
    self._mesh = mesh
    self._optimizer = make_optimizer(config)
    step = functools.partial(train_step, network=network, optimizer=self._optimizer)
    self._step = jax.jit(step, donate_argnums=0, out_shardings=meshes.replicated(mesh))

  @functools.cached_property
  def abstract_state(self) -> ClassifierState:
    """The state's shapes and shardings."""
    shapes = jax.eval_shape(self._init, jax.random.key(0))
    sharding = meshes.replicated(self._mesh)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)

  def init_state(self) -> ClassifierState:
    """A fresh state."""
    init = jax.jit(self._init, out_shardings=meshes.replicated(self._mesh))
    return init(jax.random.key(self._config.seed))

  def train_step(
    self, state: ClassifierState, local_batch: Mapping[str, np.ndarray], learning_rate: float
  ) -> tuple[ClassifierState, dict[str, jax.Array]]:
    """One step; `state` is donated.

    Args:
      state: on the devices.
      local_batch: this process's share: {'video': uint8[B, T, H, W, C], 'label': int32[B]}.
      learning_rate: of this step.

    Returns:
      The next state, and float32[] 'loss' and 'accuracy' of the batch, before the step.
    """
    batch = meshes.global_batch(dict(local_batch), meshes.batch_sharding(self._mesh, microbatches=False))
    rate = jax.device_put(np.float32(learning_rate), meshes.replicated(self._mesh))
    with jax.transfer_guard("disallow"):
      return self._step(state, batch, rate)

  def _init(self, root: jax.Array) -> ClassifierState:
    init_key, run_key = jax.random.split(root)
    data = self._config.data
    # Parameters do not depend on the number of clips.
    video = jnp.zeros((2, data.num_frames, data.resolution, data.resolution, 3), jnp.float32)
    variables = self._network.init(init_key, video, train=False)
    net = NetState(
      params=variables["params"], variables={name: value for name, value in variables.items() if name != "params"}
    )
    step = jnp.zeros((), jnp.int32)
    return ClassifierState(step=step, key=run_key, net=net, opt_state=self._optimizer.init(net.params), best=net)


def train_step(
  state: ClassifierState,
  batch: Mapping[str, jax.Array],
  learning_rate: jax.Array,
  *,
  network: nn.Module,
  optimizer: optax.GradientTransformation,
) -> tuple[ClassifierState, dict[str, jax.Array]]:
  """One step on the cross-entropy of a batch; pure. See `ClassifierSteps.train_step`."""
  dropout_key, frames_key = jax.random.split(jax.random.fold_in(state.key, state.step))
  video, label = network_input(batch["video"]), batch["label"]

  def loss_fn(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
    output, variables = network.apply(
      {"params": params, **state.net.variables},
      video,
      train=True,
      rngs={"dropout": dropout_key, "frames": frames_key},
      mutable=list(state.net.variables),
    )
    logits = output.logits.astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean(), (logits, variables)

  (loss, (logits, variables)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.net.params)
  direction, opt_state = optimizer.update(grads, state.opt_state, state.net.params)
  params = optax.apply_updates(state.net.params, jax.tree.map(lambda leaf: -learning_rate * leaf, direction))
  metrics = {"loss": loss, "accuracy": jnp.mean((logits.argmax(axis=-1) == label).astype(jnp.float32))}
  net = NetState(params=params, variables=dict(variables))
  return state.replace(step=state.step + 1, net=net, opt_state=opt_state), metrics
