"""Device meshes, shardings, communication between processes, multi-host start-up."""
