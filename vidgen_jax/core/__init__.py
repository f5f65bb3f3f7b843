"""The training contract: state, updates, the train step, EMA, standing statistics. No GAN, no input or output."""
