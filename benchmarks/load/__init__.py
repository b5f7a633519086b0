"""Load on the operator: how fast, with how many calls, in how much memory; `python -m load`."""
