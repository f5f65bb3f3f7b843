"""The papers' figures of what a generator makes: images of samples, and curves of how they vary."""
