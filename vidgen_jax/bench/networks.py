"""Networks of accelerators, and the time of collectives on them by published figures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

LINK_SHARE = 0.8
"""Assumed share of published bandwidths; NCCL reaches 370 of NVLink's 450 GB/s (github.com/NVIDIA/nccl/issues/1264)."""


class Exchange(NamedTuple):
  """Collectives of one purpose in a step: bytes of all payloads on a chip, and number of collectives."""

  bytes: float
  runs: float


@dataclass(frozen=True, kw_only=True)
class Network:
  """Memory of a chip and its links to others; bytes, seconds, bytes/s.

  Attributes:
    memory: bytes of HBM.
    memory_rate: bandwidth of the HBM.
    pod: chips that the fast network connects: a slice of a TPU, a GPU server.
    rate: bytes/s that a chip sends over all its fast links together, in one direction.
    far_rate: bytes/s that a chip sends between pods, in one direction: data-centre network, InfiniBand.
    axes: axes of the torus; 1 for a switch.
    ring: length from which an axis of the torus is closed, else half of the links are idle; 0 for a switch.
    start: latency of a collective without hops.
    hop: latency of a hop.
    far_hop: latency of a hop between pods.
  """

  memory: float
  memory_rate: float
  pod: int
  rate: float
  far_rate: float
  axes: int
  ring: int
  start: float = 0.0
  hop: float = 1e-6
  far_hop: float = 50e-6

  def seconds(self, moved: Exchange, group: int, *, passes: int, chips: int) -> float:
    """Time of collectives: latency of each, and bytes over bandwidth (Thakur et al. 2005: alpha + n beta).

    In each pass over a ring or torus of g chips a chip sends (g - 1) / g of the payload; between p pods it sends
    (p - 1) / p of its own share, payload / g (Thakur et al. 2005, section 4; "How to Scale Your Model", part 3,
    jax-ml.github.io/scaling-book/sharding). A pass takes one hop per chip on the longest path, axes x side / 2 if the
    axes are closed, and ceil(log2 p) hops between pods (NCCL's tree, src/graph/tuning.cc).

    Args:
      moved: payload and number of collectives: operand of a reduction, result of a gather.
      group: number of adjacent chips that take part in each.
      passes: 2 for an all-reduce, which is a reduce-scatter and an all-gather; 1 for either of them.
      chips: number of all chips; a part of a torus is not closed.
    """
    near = min(group, self.pod)
    pods = math.ceil(group / near)
    side = round(near ** (1 / self.axes), 6)
    closed = self.ring > 0 and group == chips and side >= self.ring
    rate = self.rate if closed or not self.ring else self.rate / 2
    hops = max(near > 1, self.axes * (side / 2 if closed else side - 1))
    sent = (near - 1) / near / rate + (pods - 1) / pods / near / self.far_rate
    latency = self.start * (group > 1) + passes * (hops * self.hop + math.ceil(math.log2(pods)) * self.far_hop)
    return passes * moved.bytes * sent / LINK_SHARE + moved.runs * latency


_GIB = 2**30
# HBM: NVIDIA's data sheets (SXM; A100 80 GB). NVLink, one direction: 450 (H100, H200) and 300 GB/s (A100). Servers of
# 8 with one ConnectX port of 400 (DGX H100, H200) or 200 Gb/s (DGX A100) per GPU. Latencies: NCCL, src/graph/tuning.cc,
# protocol LL: 4.4 us, 0.52 x 1.8 us per hop on NVLink, 5 us on the network.
_GPU: dict[str, Any] = {"pod": 8, "axes": 1, "ring": 0, "start": 4.4e-6, "hop": 0.94e-6, "far_hop": 5e-6}
# HBM, chips of a pod, axes: cloud.google.com/tpu/docs, the pages v3, v4, v5e, v5p, v6e. Links in one direction: v3, v4,
# v5e, v6e "all-reduce bandwidth per pod" / chips of the pod; v5p half of "bidirectional ICI bandwidth per chip"; v2 4
# links of 496 Gb/s (Jouppi et al. 2020, CACM 63(7), which also has v2's HBM and pod). Data-centre network: the same
# pages for v5e, v5p, v6e; else 25 GB/s per host of 4 chips. Closed axes, 1 us per hop, 25 GB/s per host: "How to Scale
# Your Model", parts 2 and 3. Hops of the data-centre network: no published figure; assumed as the 50 us that Swift
# (Kumar et al., SIGCOMM 2020) keeps short RPCs below.
NETWORKS: Mapping[str, Network] = {
  "NVIDIA H200": Network(memory=141e9, memory_rate=4.8e12, rate=450e9, far_rate=50e9, **_GPU),
  "NVIDIA H100": Network(memory=80e9, memory_rate=3.35e12, rate=450e9, far_rate=50e9, **_GPU),
  "NVIDIA A100": Network(memory=80e9, memory_rate=2.039e12, rate=300e9, far_rate=25e9, **_GPU),
  "TPU v2": Network(memory=16 * _GIB, memory_rate=700e9, pod=256, rate=248e9, far_rate=6.25e9, axes=2, ring=16),
  "TPU v3": Network(memory=32 * _GIB, memory_rate=900e9, pod=1024, rate=332e9, far_rate=6.25e9, axes=2, ring=32),
  "TPU v4": Network(memory=32 * _GIB, memory_rate=1.2e12, pod=4096, rate=268e9, far_rate=6.25e9, axes=3, ring=4),
  "TPU v5e": Network(memory=16e9, memory_rate=819e9, pod=256, rate=200e9, far_rate=3.125e9, axes=2, ring=16),
  # The largest slice that can be scheduled; a pod has 8,960 chips.
  "TPU v5p": Network(memory=95 * _GIB, memory_rate=2.765e12, pod=6144, rate=600e9, far_rate=6.25e9, axes=3, ring=4),
  "TPU v6e": Network(memory=32e9, memory_rate=1.638e12, pod=256, rate=400e9, far_rate=12.5e9, axes=2, ring=16),
}
"""Networks by the names in `settings.PEAKS`."""
