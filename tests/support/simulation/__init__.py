"""The operator's real pass in a simulated cluster: virtual time, seeded faults, checked writes.

`world.py` holds time and puts the rest together: `api.py` the store, `actors/` whoever else works
on it, `operator.py` the process that passes run in, `faults.py` what goes wrong, `checker.py` what
must hold after every write, `mutants.py` operators that are wrong on purpose. `python -m
support.simulation` runs seeds in parallel, and replays one.
"""
