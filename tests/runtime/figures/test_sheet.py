"""What `comparison_sheet` takes, and what it refuses."""

import numpy as np
import pytest

from onnxplain.contract.errors import OnnxplainError
from onnxplain.runtime import Style, comparison_sheet
from tests.helpers.ramp import ramp

ITEM, OTHER = ramp(2, 0.5, (60, 40)), ramp(1, 0, (60, 40))


def test_one_explanation_or_several_by_each_method():
    """As `explain_all` gives them for one target, or for a list."""
    one, several = comparison_sheet({"a": ITEM, "b": OTHER}), comparison_sheet({"a": [ITEM], "b": [OTHER]})
    assert np.array_equal(one, several)


@pytest.mark.parametrize(
    ("message", "explanations", "style"),
    [
        ("a sheet needs explanations", {}, None),
        ("a sheet needs explanations by their methods' names, got list", [ITEM], None),
        ("a sheet needs explanations", {"a": []}, None),
        ("by their methods' names, got 1:", {1: ITEM}, None),
        ("by their methods' names, got 'a': 'x'", {"a": "x"}, None),
        ("as many by each method as by the others", {"a": [ITEM], "b": [ITEM, OTHER]}, None),
        ("a style must be a Style, such as Style", {"a": ITEM}, {"layout": "map"}),
        (
            "a sheet of 5 x 1 images of 8192 pixels would be too large",
            dict.fromkeys("abcd", ITEM),
            Style(max_size=8192),
        ),
    ],
)
def test_mistakes(message, explanations, style):
    with pytest.raises(OnnxplainError, match=message):
        comparison_sheet(explanations, style)
