"""Growth: the fits know laws that they were given, and the table and the plots show them."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from benchmarks import growth
from benchmarks.growth import ASKED, AXES, Axis, Point
from benchmarks.results import END, Case, Record, Results

BASE = Point(1, Case("a machine", "test_vit", 32, "cpu", 1, 1, 1), 2)


def test_a_power_is_found() -> None:
    n = np.array([196.0, 441, 784, 1369])
    fit = growth.power(n, 3e-4 * n**1.37)
    assert fit.text == "n^1.37" and fit.off < 1e-9
    np.testing.assert_allclose(fit.value(np.array([50.0])), 3e-4 * 50**1.37)
    noisy = growth.power(n, 3e-4 * n**1.37 * np.array([1.02, 0.98, 0.98, 1.02]))
    assert 0.015 < noisy.off < 0.025


def test_a_line_is_found_with_its_shares_of_the_first() -> None:
    """Relative errors count: a large value that is off by as much as a small one counts no more."""
    n = np.array([1.0, 2, 10, 100])
    fit = growth.line(n, 0.6 + 0.2 * n)
    assert fit.text == "0.75 + 0.25 n" and fit.off < 1e-9
    np.testing.assert_allclose(fit.value(np.array([5.0])), 1.6)
    bent = growth.line(n, (0.6 + 0.2 * n) * np.array([1, 1, 1, 1.3]))
    assert float(bent.value(n[:1])[0]) == pytest.approx(0.8, rel=0.15)


def records(skip: int = 0) -> list[Record]:
    """What the laws time n^2 and memory n^0.5, or 0.1 + 0.4 n and 300 MB + 100 MB n, would give."""
    found: list[Record] = []
    for axis in AXES:
        for value in axis.values:
            n = axis.change(BASE, value).n
            laws = {"power": (1e-6 * n**2, 1e8 * n**0.5), "line": (0.1 + 0.4 * n, 3e8 + 1e8 * n)}
            seconds, peak = laws[axis.law]
            for way, what in ASKED:
                point = {
                    "machine": "a machine",
                    "model": "test_vit",
                    "axis": axis.name,
                    "n": n,
                    "way": way,
                    "what": what,
                }
                taken = {"skipped": "not enough memory"} if n == skip else {"seconds": seconds, "peak": peak, "runs": 3}
                found.append(point | taken)
    return found


def test_table_and_plots_are_written_in_their_place(tmp_path: Path) -> None:
    held, page = Results(tmp_path / "r.jsonl"), tmp_path / "page.md"
    held.add(records(skip=100))
    page.write_text(f"before\n{growth.BEGIN}\nold\n{END}\nafter\n")
    growth.write_between(page, growth.BEGIN, growth.document(BASE.case, growth.curves(held.records), tmp_path))
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| tokens | 196 | 1369 | relevance | 38.4 ms | 1874 ms | n^2.00 |" in text and "| n^0.50 |" in text
    assert "| layers | 3 | 24 | gradient |" in text
    assert (
        "| classes | 1 | 50 | relevance | 500 ms | 20100 ms | 0.20 + 0.80 n |" in text and "| 0.75 + 0.25 n |" in text
    )
    plots = sorted(tmp_path.glob("*.svg"))
    assert len(plots) == len(AXES) and all(f"]({plot.name})" in text for plot in plots)
    for plot in plots:
        drawn = plot.read_text()
        ElementTree.fromstring(drawn)
        assert len(drawn) < 60_000 and "relevance: " in drawn
        colours = {part.split('"')[0] for part in drawn.split('fill="#')[1:]}
        assert not colours & {"000000", "ffffff", "1d1a21"}  # nothing that is invisible on white or on black


def test_axes_are_what_they_are_called() -> None:
    tokens, layers, classes, images = ([axis.change(BASE, value) for value in axis.values] for axis in AXES)
    assert [point.n for point in tokens] == [196, 324, 441, 625, 784, 1024, 1369]
    assert [point.case.size for point in tokens][-1] == 592 and {point.depth for point in tokens} == {2}
    assert [(point.n, point.depth) for point in layers] == [(3, 3), (6, 6), (12, 12), (24, 24)]
    assert [point.case.targets for point in classes] == [point.n for point in classes]
    assert [point.case.batch for point in images] == [point.n for point in images]


@pytest.mark.slow
def test_points_are_measured(tmp_path: Path) -> None:
    """Of a tiny model 64 wide, whose files hold as many layers as they should."""
    axis = Axis("layers", (1, 3), AXES[1].change, "power")
    found = growth.measure(axis, BASE, tmp_path)
    assert {(item["way"], item["what"], item["n"]) for item in found} == {(*key, n) for key in ASKED for n in (1, 3)}
    assert all(item["seconds"] > 0 and item["peak"] > 2**20 for item in found)
    sizes = [(tmp_path / f"32-{depth}" / "all.onnx").stat().st_size for depth in (1, 3)]
    assert sizes[1] - sizes[0] > 2 * 4 * 12 * 64**2  # bytes of the weights of two layers
