"""Random draws: functions of the study's seed, a trial's number and their purpose.

An ask repeated after a restart draws the same; so does one made in another order of asks.
"""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a draw is for. Numbers are part of what a seed means: add, never renumber."""

    POINT = 0  # the configuration of a trial that no model proposes
    PRIOR = 1  # whether and which prior takes part in a step of the search
    CANDIDATES = 2  # where the acquisition function is looked at
    SAMPLES = 3  # of the posterior
    SPACE_FILLING = 4


def generator(seed: int, number: int, purpose: Purpose) -> np.random.Generator:
    return np.random.default_rng([_unsigned(seed), number, int(purpose)])


def integer_seed(seed: int, number: int, purpose: Purpose) -> int:
    """For libraries that want one number of at most 31 bits."""
    state = np.random.SeedSequence([_unsigned(seed), number, int(purpose)]).generate_state(1)
    return int(state[0]) >> 1


def _unsigned(seed: int) -> int:
    return seed % 2**64  # numpy refuses negative entropy
