"""A GAN's train step in PyTorch: updates in order, Adam, and the moving average of the weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vidgen_jax.core.optimizers import AdamConfig
from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import ExperimentConfig

Losses = tuple[Tensor, dict[str, Tensor]]
"""A loss and metrics by name."""


@dataclass(frozen=True)
class Update:
  """One kind of optimisation step: the nets that it trains, and its loss of (video uint8, label)."""

  name: str
  trains: tuple[str, ...]
  loss: Callable[[Tensor, Tensor], Losses]
  optimizer: AdamConfig
  repeats: int = 1


class System:
  """Networks and losses of one paper; `run` holds the networks as they are called, compiled or not."""

  ema_nets: tuple[str, ...] = ()

  def __init__(self, config: ExperimentConfig):
    self.c: Any = config.algorithm
    self.nets: dict[str, nn.Module] = {}
    self.run: Mapping[str, Callable] = self.nets
    if getattr(self.c, "remat", False) or config.step.accumulate > 1:
      raise UserError("the PyTorch version neither recomputes nor accumulates; set --config.algorithm.remat=False")

  def updates(self) -> tuple[Update, ...]:
    """The updates of a train step, in order."""
    raise NotImplementedError


def score_pairs(net: Callable, real: Tensor, fake: Tensor, label: Tensor) -> list[tuple[Tensor, ...]]:
  """Scores of a discriminator on real and on generated clips, in one pass."""
  scores = net(torch.cat([real, fake]), torch.cat([label, label]))
  return list(zip(*(score.chunk(2) for score in scores), strict=True))


class Trainer:
  """The state of a training, and its step.

  Args:
    system: networks and losses.
    config: experiment.
    device: 'cpu' or 'cuda'.
    dtype: precision of autocast; float32 for none.
    compiled: whether networks are compiled.
  """

  def __init__(self, system: System, config: ExperimentConfig, *, device: str, dtype: torch.dtype, compiled: bool):
    self.system, self.config = system, config
    self.autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)
    for net in system.nets.values():
      net.to(device)
    if compiled:
      system.run = {name: torch.compile(net) for name, net in system.nets.items()}
    self.updates = []
    for update in system.updates():
      params = [p for name in update.trains for p in system.nets[name].parameters()]
      adam = update.optimizer
      options = {"lr": adam.learning_rate, "betas": (adam.b1, adam.b2), "eps": adam.eps, "fused": True}
      self.updates.append((update, params, torch.optim.Adam(params, **options)))
    self.live = [p.detach() for name in system.ema_nets for p in system.nets[name].parameters()]
    self.averages = [p.clone() for p in self.live]
    self.steps = 0

  def step(self, videos: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """One train step on micro-batches uint8 [K, B, T, C, H, W] with labels [K, B]; returns the last metrics."""
    metrics = {}
    consumed = 0
    for update, params, optimizer in self.updates:
      for name, net in self.system.nets.items():
        net.requires_grad_(name in update.trains)
      for _ in range(update.repeats):
        with self.autocast:
          loss, parts = update.loss(videos[consumed], labels[consumed])
        consumed += 1
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in params if p.grad is not None])
        if update.optimizer.clip_norm:
          nn.utils.clip_grads_with_norm_(params, update.optimizer.clip_norm, norm)
        for group in optimizer.param_groups:
          group["lr"] = update.optimizer.learning_rate_at(self.steps)
        optimizer.step()
      parts |= {"loss": loss, "grad_norm": norm}
      metrics |= {f"{update.name}/{name}": value.detach() for name, value in parts.items()}
    self.steps += 1
    torch._foreach_lerp_(self.averages, self.live, 1.0 - self._decay())
    return metrics

  def _decay(self) -> float:
    ema = self.config.ema
    since = self.steps - ema.start_step
    if since <= 0:
      return 0.0
    return min(ema.decay, (1.0 + since) / (10.0 + since)) if ema.warmup else ema.decay
