"""Published data sets as their owners distribute them: which file is what, and how papers split them."""

from vidgen_jax.data.datasets.bair import BAIR
from vidgen_jax.data.datasets.jester import JESTER
from vidgen_jax.data.datasets.kinetics import KINETICS
from vidgen_jax.data.datasets.kth import KTH
from vidgen_jax.data.datasets.layout import Layout, split_hash
from vidgen_jax.data.datasets.moving_mnist import MOVING_MNIST
from vidgen_jax.data.datasets.mug import MUG
from vidgen_jax.data.datasets.ucf101 import UCF101
from vidgen_jax.data.datasets.weizmann import WEIZMANN

LAYOUTS = {layout.name: layout for layout in (BAIR, JESTER, *KINETICS, KTH, MOVING_MNIST, MUG, UCF101, WEIZMANN)}
"""By name."""

__all__ = ["LAYOUTS", "Layout", "split_hash"]
