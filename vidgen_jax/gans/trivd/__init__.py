"""TrIVD-GAN-FP: video prediction with transformation-based recurrent units and several discriminators.

Luc et al., "Transformation-based Adversarial Video Prediction on Large-Scale Data", arXiv:2003.04035. With other
settings the same networks are DVD-GAN-FP (Clark et al., arXiv:1907.06571).
"""
