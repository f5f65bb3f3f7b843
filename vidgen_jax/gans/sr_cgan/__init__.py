"""SR-cGAN: clips from frames at arbitrary times.

Yeh et al., "Static2Dynamic: Video Inference from a Deep Glimpse", IEEE Transactions on Emerging Topics in Computational
Intelligence, 2020.
"""
