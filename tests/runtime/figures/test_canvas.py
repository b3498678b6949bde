"""Texts that are longer than their room."""

import pytest

from onnxplain.runtime.figures.canvas import shortened, text_width


@pytest.mark.parametrize("text", ["word " * 100, "W" * 90, "a b"])
@pytest.mark.parametrize("width", [20, 100, 301.5])
def test_a_text_that_is_cut_ends_with_an_ellipsis(text, width):
    """It has as many letters as fit: with one more it would be too wide."""
    short = shortened(text, 18, width)
    if text_width(text, 18) <= width:
        assert short == text
        return
    kept = short.removesuffix("…")
    assert short == f"{kept}…" and kept == text[: len(kept)] and not kept.endswith(" ")
    assert text_width(short, 18) <= width
    longer = text[: len(kept) + 1 + (text[len(kept)] == " ")]
    assert text_width(f"{longer}…", 18) > width


def test_where_nothing_fits():
    assert shortened("word", 18, 1) == "…" and shortened("", 18, 1) == ""
