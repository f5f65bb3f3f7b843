"""Sets of clips to be scored: folders of videos, strips, frames or arrays, single files, and prepared data sets.

Whatever their origin, clips are uint8[T, H, W, C] of one shape, checked, and read on demand.
"""

from vidgen_jax.scores.clip_sets.clip_set import ClipSet
from vidgen_jax.scores.clip_sets.opening import open_clips
from vidgen_jax.scores.clip_sets.reader import ClipOptions

__all__ = ["ClipOptions", "ClipSet", "open_clips"]
