"""Runs `python -m vidgen_jax COMMAND` as `vidgen COMMAND`."""

from vidgen_jax.cli import main

if __name__ == "__main__":
  main()
