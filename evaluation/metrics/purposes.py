"""What random numbers of a case are for, see `Case.random`: a number for each purpose, so that no two share any."""

TIES = 0
"""The order of pixels or patches of equal value."""
RANDOM_MAP = 1
"""The yardstick."""
ROAD_NOISE = 2
"""The noise of the baseline noisy-linear."""
SQUARES = 3
"""The squares of infidelity."""
SENSITIVITY_NOISE = 4
"""The noise of max-sensitivity."""
ROUNDING = 5
"""The directions of rounding, for numerical noise."""
