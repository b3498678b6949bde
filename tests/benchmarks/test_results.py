"""What the tables of the benchmarks make of the results, and what these foretell."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cost, results
from benchmarks.results import Case, Record, Results

CASE = Case("a machine", "vit_tiny", 32, "cpu", 1, 1, 1)


def record(case: Case, way: str, what: str, seconds: float | None = None, **more: Any) -> Record:
    taken = {"skipped": "not enough memory"} if seconds is None else {"seconds": seconds, "estimated": False}
    rest = {"runs": 5, "peak": 3e6, "opened": 0.5, "file": 2e6}
    return {**asdict(case), "way": way, "what": what, **taken, **rest, **more}


def test_what_smaller_cases_foretell(tmp_path: Path) -> None:
    held = Results(tmp_path / "r.jsonl")
    held.add([record(CASE, way, "relevance", 40) for way in ("onnx", "lean")])
    held.add([record(CASE, "published", "relevance"), record(CASE.like(batch=8), "onnx", "relevance", 100)])
    ten = CASE.like(targets=10)
    assert cost.foreseen(held, ten, "onnx", "relevance", 400) == {}
    assert cost.foreseen(held, ten, "onnx", "relevance", 399) == {"skipped": "a run would take more than 399 s"}
    estimated = cost.foreseen(held, ten, "lean", "relevance", 399)
    assert estimated["estimated"] and estimated["seconds"] == 400
    assert cost.foreseen(held, CASE.like(batch=8), "lean", "relevance", 319)["skipped"]
    assert cost.foreseen(held, ten, "lean", "relevance", 10_000)["estimated"]  # ten of them take more than LONG
    assert cost.foreseen(held, ten, "published", "relevance", 399) == {"skipped": "not enough memory"}
    assert cost.foreseen(held, CASE, "published", "relevance", 1) == {}
    assert cost.foreseen(held, ten.like(threads=2), "onnx", "relevance", 1) == {}


def test_tables_from_lines(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.jsonl"
    held = Results(path)
    two, eight = CASE.like(threads=2), CASE.like(batch=8)
    held.add([record(CASE, "plain", "logits", 0.1), record(CASE, "onnx", "relevance", 0.5)])
    held.add([record(CASE, "lean", "relevance", 1.0), record(CASE, "published", "relevance", 1.5)])
    ten = CASE.like(targets=10)
    held.add([record(ten, "plain", "logits", 0.15), record(ten, "onnx", "relevance", 3.45)])
    held.add([record(ten, "published", "relevance", 11.5), record(CASE, "onnx_int8", "relevance", 0.25)])
    held.add([asdict(CASE) | {"of": "onnx", "what": "relevance", "copies": 3, "nodes": 9, "on_cpu": {"Shape": 2}}])
    held.add([record(eight, "onnx", "relevance", 3.2, runs=0), record(two, "onnx", "relevance", 0.25)])
    held.add([record(eight, "lean", "relevance"), record(eight, "published", "relevance", 12, estimated=True)])
    again = Results(path)
    assert again.records == held.records and again.times() == held.times()
    summary, copied, one, more = results.sections(again)
    assert copied.rows == [["vit_tiny at 32", "ONNX artifact", "relevance", "3", "9", "2 Shape"]]
    plain, line, int8 = summary.rows
    assert plain[2:5] == ["logits", "plain forward pass (F)", "1"] and int8[3:5] == ["ONNX artifact, int8", "2.5"]
    published = [place for place, head in enumerate(summary.heads) if head == "published / this"]
    assert [line[place] for place in published] == ["3", "3.33"]
    assert [int8[place] for place in published] == ["6", ""]
    told = dict(zip(summary.heads, line, strict=True))
    assert {head: told[head] for head in summary.heads[7:] if head != "published / this"} == {
        "10 classes: F": "23", "a further class: F": "2", "8 single runs / batch of 8": "1.25",
        "1 thread / all threads": "2", "peak MB": "3", "file MB": "2", "opens in s": "0.5",
    }  # fmt: skip
    rows = {(row[1], row[3]): dict(zip(one.heads, row, strict=True)) for row in one.rows if row[2] == "1"}
    artifact = rows["1", "ONNX artifact"]
    assert [artifact[head] for head in results.HEADS[4:8]] == ["500", "5", "3", "2"]
    assert [artifact[head] for head in results.HEADS[8:]] == ["", "", "3", "2", "0.5", "5"]
    assert rows["8", "ONNX artifact"]["single runs / this"] == "1.25"
    assert rows["8", "ONNX artifact"]["runs"] == "the first"
    assert rows["8", "reference, lean"]["ms"] == "not run: not enough memory"
    assert rows["8", "reference, as published"]["ms"] == "~12000"
    assert dict(zip(more.heads, more.rows[0], strict=True))["1 thread / this"] == "2"


def test_document_is_written_in_its_place(tmp_path: Path) -> None:
    held, page = Results(tmp_path / "r.jsonl"), tmp_path / "page.md"
    held.add([record(CASE, "plain", "logits", 0.1)])
    held.add([record(Case(**(asdict(CASE) | {"machine": "another"})), "plain", "logits", 0.3)])
    page.write_text(f"before\n{results.COST}\nold\n{results.END}\nafter\n<!-- another -->{results.END}")
    results.write_between(page, results.COST, results.document(held))
    text = page.read_text()
    assert (
        text.startswith("before\n") and text.endswith(f"\nafter\n<!-- another -->{results.END}") and "old" not in text
    )
    assert text.index("a machine") < text.index("| 100 |") < text.index("another") < text.index("| 300 |")
    results.write_between(page, results.COST, results.document(held))
    assert page.read_text() == text
    page.write_text("no place")
    with pytest.raises(ValueError, match="no place"):
        results.write_between(page, results.COST, "new")
    assert page.read_text() == "no place"
