"""How the gate judges heatmaps whose rules divide by sums near zero: not by which of the samples had bad luck."""

from onnxplain.export.parity import _heatmaps


def test_where_float32_itself_is_off_in_another_sample() -> None:
    """(1 - cosine of the file, of eager float32), image by image and class by class, measured on a right file."""
    (check,) = _heatmaps([(5.1e-4, 1e-6), (8.2e-3, 6.3e-6), (2.1e-7, 4.3e-4), (1.6e-8, 4.9e-9)])
    assert check.passed


def test_where_float32_is_right_and_the_file_is_not() -> None:
    (check,) = _heatmaps([(5.1e-4, 1e-6), (8.2e-3, 6.3e-6), (2.1e-7, 4.3e-6), (1.6e-8, 4.9e-9)])
    assert not check.passed and check.limit == 1e-4


def test_where_the_file_is_further_off_than_float32() -> None:
    (check,) = _heatmaps([(0.02, 4e-4), (0.03, 1e-3), (0.01, 2e-4), (0.02, 1e-6)])
    assert not check.passed
