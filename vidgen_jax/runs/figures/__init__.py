"""The papers' figures of generated clips: images of samples, and curves of how samples vary."""
