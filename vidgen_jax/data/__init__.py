"""Data sets: builds with TFDS and ArrayRecord, and the Grain pipeline that reads them. Needs no TensorFlow."""
