"""What a run lets a person see: metrics, progress, pictures, parameters."""
