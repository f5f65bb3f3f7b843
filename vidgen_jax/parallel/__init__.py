"""Meshes, shardings, multi-host start-up."""
