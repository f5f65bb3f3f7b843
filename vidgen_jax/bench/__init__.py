"""What a train step and feature extraction cost: time, FLOPs, memory, and the paper's tables of them."""
