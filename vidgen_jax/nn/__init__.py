"""Linen layers for video, independent of any GAN.

Attributes with the same meaning in all modules are not repeated:
  features: output channels.
  use_bias: whether to add a bias per channel.
  spectral_norm: whether all kernels are spectrally normalised.
  bn_momentum: `BatchNorm.momentum`.
  dtype: type of the computation; parameters and statistics are float32.
"""
