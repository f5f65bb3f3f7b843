"""A classifier as an algorithm of the training loop: one network and one update."""

import dataclasses
import functools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from vidgen_jax.core.algorithm import Algorithm, LossOutput, Update
from vidgen_jax.core.state import Nets, NetState
from vidgen_jax.errors import UserError
from vidgen_jax.scores.classifier.config import ClassifierConfig
from vidgen_jax.scores.metrics.preprocessing import normalise
from vidgen_jax.scores.networks import build_network
from vidgen_jax.types import Batch, PRNGKey

NET = "classifier"
MOMENTUM = 0.9


@dataclasses.dataclass(kw_only=True)
class Plateau:
  """Learning-rate schedule on the test accuracy. Changes on the host only, after each epoch.

  Attributes:
    epoch: number of completed epochs.
    best_accuracy: highest test accuracy, in [0, 1]; -1 before the first epoch.
    best_epoch: first epoch with this accuracy; 0 before the first epoch.
    stale: number of epochs since then, or since the last reduction, without a higher accuracy.
    reductions: number of reductions of the learning rate.
  """

  epoch: int = 0
  best_accuracy: float = -1.0
  best_epoch: int = 0
  stale: int = 0
  reductions: int = 0

  def add(self, accuracy: float, *, patience: int) -> bool:
    """Adds the test accuracy of an epoch; returns whether it is the best so far.

    After `patience` epochs without a better accuracy the learning rate is reduced and the count starts again.
    """
    self.epoch += 1
    if accuracy > self.best_accuracy:
      self.best_accuracy, self.best_epoch, self.stale = accuracy, self.epoch, 0
      return True
    self.stale += 1
    if self.stale == patience:
      self.stale, self.reductions = 0, self.reductions + 1
    return False

  def learning_rate(self, initial: float) -> float:
    """The initial learning rate divided by ten for each reduction."""
    return initial / 10**self.reductions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier(Algorithm):
  """A classifier trained on the cross-entropy of its training windows; the hook that tests it advances `plateau`."""

  config: ClassifierConfig
  plateau: Plateau = dataclasses.field(default_factory=Plateau)

  @functools.cached_property
  def network(self) -> nn.Module:
    """The module; its output has `logits`."""
    return build_network(self.config.network, self.config.settings)

  @property
  def ema_nets(self) -> tuple[str, ...]:
    return ()

  def networks(self) -> Mapping[str, nn.Module]:
    return {NET: self.network}

  def init(self, key: PRNGKey, batch: Batch) -> Nets:
    """Initialises the classifier; raises a UserError if the windows are too small for it."""
    try:
      variables = dict(self.network.init(key, self._input(batch), train=False))
    except ValueError as error:
      shape = batch["video"].shape[1:]
      raise UserError(
        f"network {self.config.network!r} does not accept windows of {shape} (T, H, W, C): {error}; choose another "
        "--num_frames or --resolution"
      ) from error
    return {NET: NetState(params=variables.pop("params"), variables=variables)}

  def _input(self, batch: Batch) -> jax.Array:
    return normalise(batch["video"], mean=self.config.mean, std=self.config.std)

  def updates(self, phase: str) -> tuple[Update, ...]:
    del phase
    update = Update(
      name="train",
      trains=(NET,),
      refreshes=(NET,),
      loss_fn=self._loss,
      optimizer=make_optimizer(self.config),
      learning_rate=lambda _: self.plateau.learning_rate(self.config.learning_rate),
    )
    return (update,)

  def _loss(
    self, nets: Nets, frozen: Mapping[str, NetState], batch: Batch, key: PRNGKey, step: jax.Array
  ) -> tuple[jax.Array, LossOutput]:
    del frozen, step
    net, label = nets[NET], batch["label"]
    dropout_key, frames_key = jax.random.split(key)
    output, variables = self.network.apply(
      net.collections,
      self._input(batch),
      train=True,
      rngs={"dropout": dropout_key, "frames": frames_key},
      mutable=list(net.variables),
    )
    logits = output.logits.astype(jnp.float32)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()
    accuracy = jnp.mean((logits.argmax(axis=-1) == label).astype(jnp.float32))
    return loss, LossOutput(nets={NET: net.replace(variables=dict(variables))}, metrics={"accuracy": accuracy})


def make_optimizer(config: ClassifierConfig) -> optax.GradientTransformation:
  """Direction of a step, without the learning rate and its sign."""
  decay = optax.add_decayed_weights(
    config.weight_decay, mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
  )
  if config.optimizer == "adam":
    return optax.chain(optax.scale_by_adam(), decay)
  return optax.chain(decay, optax.trace(decay=MOMENTUM))
