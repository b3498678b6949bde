"""The metrics that change the image and ask the model again: does the class depend on what the map says it does?"""

from . import masked_input, pixel_groups, removal_curves

ROWS = (*removal_curves.ROWS, *masked_input.ROWS, *pixel_groups.ROWS)
