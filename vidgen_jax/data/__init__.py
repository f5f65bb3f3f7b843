"""From files to batches: TFDS builders with ArrayRecord, and the Grain pipeline that reads them. No TensorFlow."""
