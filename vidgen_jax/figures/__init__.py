"""The papers' figures of what a generator makes: pictures of samples, and curves of how they vary."""
