"""Kept results that are damaged."""

import json

import pytest

from onnxplain.contract import OnnxplainError
from onnxplain.evaluation.results import ImageResult, Measured
from onnxplain.evaluation.store import FILE, Store

RUN = {"digest": "abc", "seed": 0}


@pytest.fixture
def lines(tmp_path):
    """What a store writes of one image."""
    store = Store(tmp_path, RUN)
    store.add_costs({"rollout": 1.5})
    store.add(ImageResult("a.png", True, 0, (Measured(0, "rollout", "mass", (0.5,)),), 3, 1.0))
    return (tmp_path / FILE).read_text().splitlines()


def damaged(folder, lines):
    (folder / FILE).write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(OnnxplainError) as raised:
        Store(folder, RUN)
    return str(raised.value)


@pytest.mark.parametrize("header", ["[]", "{}", "3", '{"run": 3}', '{"run": {}}', "no JSON"])
def test_a_file_of_another_kind_is_refused(tmp_path, lines, header):
    message = f"{tmp_path / FILE} does not hold results of an evaluation; give another folder, or delete it"
    assert damaged(tmp_path, [header, *lines[1:]]) == message


@pytest.mark.parametrize(
    "line",
    [
        "no JSON",
        "[]",
        "{}",
        '{"costs": 5}',
        '{"costs": {"rollout": "x"}}',
        '{"name": "x"}',
        '{"name": "x", "measured": []}',
        '{"measured": [[0, "rollout", "mass", ["q"]]]}',
    ],
)
def test_a_damaged_line_is_named_and_can_be_deleted(tmp_path, lines, line):
    assert damaged(tmp_path, [*lines[:2], line, lines[2]]).startswith(f"line 3 of {tmp_path / FILE} is damaged; delete")
    (tmp_path / FILE).write_text("".join(f"{line}\n" for line in lines))
    assert Store(tmp_path, RUN).images["a.png"].measured[0].parts == (0.5,)


def test_a_value_that_is_no_number_is_damage(tmp_path, lines):
    fields = json.loads(lines[2])
    fields["measured"][0][3] = ["q"]
    assert "line 3" in damaged(tmp_path, [*lines[:2], json.dumps(fields)])


def test_where_nothing_was_measured_another_evaluation_may_begin(tmp_path, lines):
    (tmp_path / FILE).write_text("".join(f"{line}\n" for line in lines[:2]))
    store = Store(tmp_path, RUN | {"seed": 1})
    assert not store.images and not store.costs
    assert json.loads((tmp_path / FILE).read_text()) == {"run": RUN | {"seed": 1}}


def test_results_of_an_earlier_version_are_called_so(tmp_path, lines):
    """Their lines name an image in another field."""
    fields = json.loads(lines[2])
    fields["picture"] = fields.pop("name")
    message = damaged(tmp_path, [*lines[:2], json.dumps(fields)])
    assert message == f"{tmp_path / FILE} is of an earlier version; give another folder, or delete it"
