"""The training loop, and what happens in it now and then."""
