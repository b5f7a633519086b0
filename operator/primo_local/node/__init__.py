"""A node that runs the containers of its pods as ordinary processes of this machine.

What it keeps of a kubelet: everything that the API shows (phases, states, conditions, messages,
Events, logs), the order of init containers and native sidecars, restarts and back-off, graceful
ends, environment, volumes as directories, and devices lent to one pod at a time.

What it cannot give: images, isolation, limits on cpu and memory, other users, a network of the
pod's own, probes and lifecycle hooks. File systems are not separate either; see `paths`.
"""
