"""A small Kubernetes API server on loopback: one process, one event loop, objects in memory."""
