"""Published data sets as their owners distribute them: which file is what, and how papers split them."""

from vidgen_jax.data.layouts.kth import KTH
from vidgen_jax.data.layouts.layout import Layout, split_hash
from vidgen_jax.data.layouts.ucf101 import UCF101

LAYOUTS = {layout.name: layout for layout in (KTH, UCF101)}
"""By name."""

__all__ = ["LAYOUTS", "Layout", "split_hash"]
