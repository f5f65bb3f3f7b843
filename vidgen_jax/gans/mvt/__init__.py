"""MVT-GAN: clips of a class from noise.

Munoz et al., "Multi-Variate Temporal GAN for Large Scale Video Generation", arXiv:2004.01823.
"""
