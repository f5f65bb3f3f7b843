"""Clips of any origin: folders of videos, strips, single frames or arrays, one array file, or a prepared data set.

Whatever they come from, they are uint8[T, H, W, C], checked, of one shape, and read when they are asked for.
"""

from vidgen_jax.scores.clip_sets.clip_set import ClipSet
from vidgen_jax.scores.clip_sets.opening import open_clips
from vidgen_jax.scores.clip_sets.options import ClipOptions

__all__ = ["ClipOptions", "ClipSet", "open_clips"]
