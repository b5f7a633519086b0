"""What makes objects happen: Jobs get pods, pods a node, claims a volume.

Each controller is a function over what it sees and a loop that carries out what it says. On a real
cluster these are switched off, for it has its own; the node works without them.
"""
