"""What a run lets a person see: metrics, progress, images, parameters."""
