"""A stand-in cluster for laptops and tests: API server, controllers, a node of processes."""
