"""Discriminator decompositions of TrIVD-GAN-FP (Table 1, figure 1)."""

from collections.abc import Mapping

from vidgen_jax.gans.discriminators import View

FRAMES = View(net="frame_disc", on="frames", spatial="full")
DOWNSAMPLED_FRAMES = View(net="downsampled_frame_disc", on="frames", spatial="downsampled")
VIDEO = View(net="video_disc", on="video", spatial="full")
DOWNSAMPLED_VIDEO = View(net="downsampled_video_disc", on="video", spatial="downsampled")
CROPPED_VIDEO = View(net="cropped_video_disc", on="video", spatial="cropped")

DECOMPOSITIONS: Mapping[str, tuple[View, ...]] = {
  "clip": (VIDEO,),
  "downsampled": (DOWNSAMPLED_VIDEO,),
  "cropped": (CROPPED_VIDEO,),
  "cropped_downsampled": (CROPPED_VIDEO, DOWNSAMPLED_VIDEO),
  "mocogan_like": (FRAMES, VIDEO),
  "dvd_gan_fp": (FRAMES, DOWNSAMPLED_VIDEO),
  "faster": (DOWNSAMPLED_FRAMES, CROPPED_VIDEO),
  "stronger": (DOWNSAMPLED_FRAMES, CROPPED_VIDEO, DOWNSAMPLED_VIDEO),
}
"""Views of the discriminators by name of the decomposition, in the order of Table 1."""
