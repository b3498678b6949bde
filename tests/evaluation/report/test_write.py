"""The folder that an evaluation leaves."""

import sys

import pytest

from onnxplain.contract import OnnxplainError
from onnxplain.evaluation.report.write import write_report
from tests.helpers.evaluations import ROWS, only, realistic

CSV = ["comparisons.csv", "results.csv", "table.csv"]


@pytest.fixture(scope="module")
def results():
    return only(realistic(images=4, methods=("rollout", "legrad")), "perturbation_positive", "mass")


def test_all_files_are_written_and_the_same_each_time(results, tmp_path):
    written = write_report(results, ROWS, tmp_path / "new" / "report")
    names = [path.relative_to(tmp_path / "new" / "report").as_posix() for path in written]
    assert names[:3] == CSV and names[-1] == "report.html" and "plots/curve_perturbation_positive.svg" in names
    assert sorted(written) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    before = [path.read_bytes() for path in written]
    assert write_report(results, ROWS, tmp_path / "new" / "report") == written
    assert [path.read_bytes() for path in written] == before


def test_without_matplotlib_the_numbers_are_written(results, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(OnnxplainError, match=r"needs matplotlib: pip install 'onnxplain\[report\]'; the CSV files in"):
        write_report(results, ROWS, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == CSV


def test_other_files_in_the_folder_stay(results, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    write_report(results, ROWS, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_named(results, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OnnxplainError, match=r"cannot write .*file"):
        write_report(results, ROWS, tmp_path / "file" / "report")
