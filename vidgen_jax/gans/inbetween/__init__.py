"""Inbetweening: the frames between a first and a last frame, with direct 3-D convolutions.

Li et al., "From Here to There: Video Inbetweening Using Direct 3D Convolutions", arXiv:1905.10240.
"""
