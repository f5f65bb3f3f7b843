"""A GAN's train step in PyTorch: updates in order, Adam, and the moving average of the weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidgen_jax.core.optimizers import AdamConfig
from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import ExperimentConfig

Losses = tuple[Tensor, dict[str, Tensor]]
"""A loss, and metrics by name."""


@dataclass(frozen=True)
class Update:
  """One kind of optimisation step; `loss` takes clips [B, T, C, H, W] in [-1, 1] and labels [B]."""

  name: str
  trains: Sequence[str]
  loss: Callable[[Tensor, Tensor], Losses]
  optimizer: AdamConfig
  repeats: int = 1


class System:
  """Networks and losses of one paper; `run` holds the networks as they are called, compiled or not."""

  ema_nets: tuple[str, ...] = ("generator",)

  def __init__(self, config: ExperimentConfig, *, channels_last: bool = False):
    self.c: Any = config.algorithm
    self.channels_last = channels_last
    self.nets: dict[str, nn.Module] = {}
    self.run: Mapping[str, Callable] = self.nets
    if self.c.remat or config.step.accumulate > 1:
      raise UserError("the PyTorch version needs --config.algorithm.remat=False and --config.step.accumulate=1")

  def updates(self) -> tuple[Update, ...]:
    """The updates of a train step, in order."""
    raise NotImplementedError


def hinge_losses(nets: Mapping[str, Callable], real: Mapping[str, Tensor], fake: Mapping[str, Tensor]) -> Losses:
  """The discriminators' hinge losses; a net maps inputs of both kinds, in one batch, to outputs for each."""
  metrics = {}
  for name, net in nets.items():
    on_real, on_fake = net(torch.cat([real[name], fake[name]]))
    metrics[f"{name}/loss"] = functional.relu(1.0 + on_fake).mean() + functional.relu(1.0 - on_real).mean()
    metrics |= {f"{name}/real": on_real.mean(), f"{name}/fake": on_fake.mean()}
  return torch.stack([metrics[f"{name}/loss"] for name in nets]).sum(), metrics


class Trainer:
  """The state of a training, and its step, on a device 'cpu' or 'cuda' and optionally with bfloat16 autocast."""

  def __init__(self, system: System, config: ExperimentConfig, device: str, *, bfloat16: bool, compiled: bool):
    self.system, self.ema = system, config.ema
    self.autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=bfloat16)
    for net in system.nets.values():
      net.to(device)
    if compiled:
      system.run = {name: torch.compile(net) for name, net in system.nets.items()}
    self.updates = []
    for update in system.updates():
      params = [p for name in update.trains for p in system.nets[name].parameters()]
      adam = update.optimizer
      optimizer = torch.optim.Adam(params, lr=adam.learning_rate, betas=(adam.b1, adam.b2), eps=adam.eps, fused=True)
      self.updates.append((update, params, optimizer))
    self.live = [p.detach() for name in system.ema_nets for p in system.nets[name].parameters()]
    self.averages = [p.clone() for p in self.live]
    self.steps = 0

  def step(self, videos: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """One train step on micro-batches uint8 [K, B, T, C, H, W] with labels [K, B]; returns the last metrics."""
    metrics, batches = {}, iter(zip(videos, labels, strict=True))
    for update, params, optimizer in self.updates:
      for name, net in self.system.nets.items():
        net.requires_grad_(name in update.trains)
      optimizer.param_groups[0]["lr"] = update.optimizer.learning_rate_at(self.steps)
      for _ in range(update.repeats):
        video, label = next(batches)
        with self.autocast:
          loss, parts = update.loss(video.float().div_(127.5).sub_(1.0), label)
        optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=params)
        parts |= {"loss": loss, "grad_norm": nn.utils.get_total_norm([p.grad for p in params if p.grad is not None])}
        if update.optimizer.clip_norm:
          nn.utils.clip_grads_with_norm_(params, update.optimizer.clip_norm, parts["grad_norm"])
        optimizer.step()
        metrics |= {f"{update.name}/{name}": value.detach() for name, value in parts.items()}
    self.steps += 1
    torch._foreach_lerp_(self.averages, self.live, 1.0 - self._decay())
    return metrics

  def _decay(self) -> float:
    since = self.steps - self.ema.start_step
    if since <= 0:
      return 0.0
    return min(self.ema.decay, (1.0 + since) / (10.0 + since)) if self.ema.warmup else self.ema.decay
