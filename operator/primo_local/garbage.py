"""How often Python's garbage collector looks for cycles, which stops a whole process."""

import gc

NEW_OBJECTS = 100_000


def look_seldom() -> None:
    """Objects hold no cycles, and to look for some in those of 5,000 trials takes a second."""
    gc.freeze()  # modules, which stay
    gc.set_threshold(NEW_OBJECTS)
