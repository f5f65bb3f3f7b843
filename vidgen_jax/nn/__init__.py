"""Linen layers for video, independent of any GAN."""
