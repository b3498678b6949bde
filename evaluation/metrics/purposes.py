"""What random numbers of a case are for: see `Case.random`. A yardstick has 1."""

TIES = 0
"""The order of pixels or patches of equal value."""
NOISE = 2
"""The noise of the baseline noisy-linear."""
SQUARES = 3
"""The squares of infidelity."""
