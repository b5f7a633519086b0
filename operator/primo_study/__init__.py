"""A study as data: its spec, its state, what to do next, how it stands. No I/O, no clock."""
