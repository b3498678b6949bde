"""The digest that an artifact ends with: any change of the file is noticed, and nothing is answered from it."""

import hashlib
import json

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from PIL import Image
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.contract.digest import file_digest, open_beside, stored_digest
from onnxplain.contract.metadata import SCHEMA
from onnxplain.export.formats.onnx_file import save_onnx
from onnxplain.runtime import METADATA_KEY, Explainer, OnnxplainError
from tests.helpers import tiny_artifact

DAMAGED = "x.onnx was damaged or changed since export: .*; fetch it again, or export it again"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of an artifact that opens in little time."""
    path = tiny_artifact.build(tmp_path_factory.mktemp("artifact") / "x.onnx", passes=("attention",))
    assert Explainer(path, "cpu", 1).explain(np.zeros((9, 9, 3), np.uint8)).label
    return path.read_bytes()


def _refused(path, message=DAMAGED, **options):
    with pytest.raises(OnnxplainError, match=message) as caught:
        Explainer(path, "cpu", 1, **options)
    assert "\n" not in str(caught.value)


def _places(content):
    """By part of the file, where it begins and ends."""
    model = onnx.load_from_string(content)
    weight = next(numpy_helper.to_array(item) for item in model.graph.initializer if item.name == "weight").tobytes()
    document = model.metadata_props[0].value.encode()
    starts = {"weights": content.index(weight), "metadata": content.index(document), "digest": len(content) - 64}
    sizes = {"weights": len(weight), "metadata": len(document), "digest": 64}
    return {name: (start, start + sizes[name]) for name, start in starts.items()} | {
        "graph": (0, starts["metadata"]),
        "anywhere": (0, len(content)),
    }


@pytest.mark.parametrize("part", ["weights", "metadata", "digest", "graph", "anywhere"])
def test_a_single_bit_is_noticed(part, whole, tmp_path):
    path = tmp_path / "x.onnx"
    start, end = _places(whole)[part]
    message = "damaged or changed since export|a text in it is not UTF-8" if part in {"digest", "anywhere"} else DAMAGED
    rng = np.random.default_rng(0)
    for place in {start, end - 1, *rng.integers(start, end, 14).tolist()}:
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        _refused(path, message)
        _refused(path, message, cache=True)
    assert [item.name for item in tmp_path.iterdir()] == ["x.onnx"]


@pytest.mark.parametrize(
    "change", [lambda x: x[:-1], lambda x: x + b"\0", lambda x: x[:-1000] + x[-64:], lambda x: x[:100] + x[200:]]
)
def test_a_missing_or_added_piece_is_noticed(change, whole, tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(change(whole))
    _refused(path, "damaged|not an ONNX file, or it is truncated")


@pytest.mark.parametrize(
    "edit",
    [
        {"readout": [3]},
        {"passes": ["attention"]},
        {"labels": [f"another {number}" for number in range(6)]},
        {"preprocessing": {"mean": [0.4, 0.5, 0.5]}},
        {"preprocessing": {"std": [0.25, 0.25, 0.26]}},
    ],
    ids=lambda edit: str(edit)[:30],
)
def test_metadata_changed_with_other_tools(edit, tmp_path):
    path = tiny_artifact.build(tmp_path / "x.onnx")
    model = ir.load(path)
    document = json.loads(model.metadata_props[METADATA_KEY])
    changed = {name: {**document[name], **value} if isinstance(value, dict) else value for name, value in edit.items()}
    assert any(document[name] != value for name, value in changed.items())
    model.metadata_props[METADATA_KEY] = json.dumps({**document, **changed})
    ir.save(model, path)
    _refused(path)
    del model.metadata_props["onnxplain_sha256"]
    ir.save(model, path)
    _refused(path)


def test_artifacts_without_a_digest(tmp_path):
    """Those of earlier versions are to be exported again; what is no artifact at all is called so."""
    path = tiny_artifact.build(tmp_path / "x.onnx", passes=("attention",))
    model = ir.load(path)
    del model.metadata_props["onnxplain_sha256"]
    old = f"schema is 3, this version reads {SCHEMA}; export it again with this version"
    for schema, message in ((SCHEMA, DAMAGED), (3, old)):
        model.metadata_props[METADATA_KEY] = json.dumps(
            json.loads(model.metadata_props[METADATA_KEY]) | {"schema": schema}
        )
        ir.save(model, path)
        _refused(path, message)
        _refused(path, message, cache=True)
    model.metadata_props.clear()
    ir.save(model, path)
    _refused(path, "an ONNX file without 'onnxplain' metadata")


def test_the_format(whole, tmp_path):
    """What the README says, checked without this package's code; the file remains valid, and export writes no other."""
    assert whole[-64:].decode() == hashlib.sha256(whole[:-64]).hexdigest()
    model = onnx.load_from_string(whole)
    onnx.checker.check_model(model)
    assert [item.key for item in model.metadata_props] == ["onnxplain", "onnxplain_sha256"]
    assert model.metadata_props[1].value == whole[-64:].decode()
    path, again = tmp_path / "x.onnx", tmp_path / "again.onnx"
    path.write_bytes(whole)
    assert stored_digest(path) == file_digest(path, 64) == whole[-64:].decode()
    save_onnx(ir.load(path), model.metadata_props[0].value, again)
    content = again.read_bytes()
    assert content[-64:].decode() == hashlib.sha256(content[:-64]).hexdigest()
    assert content.count(b"onnxplain_sha256") == 1
    assert Explainer(again, "cpu", 1).metadata == Explainer(path, "cpu", 1).metadata


def test_files_shorter_than_a_digest(tmp_path):
    path = tmp_path / "x.onnx"
    for content in (b"", b"ab", b"a" * 64):
        path.write_bytes(content)
        assert file_digest(path, 64) == hashlib.sha256().hexdigest()
        assert stored_digest(path) == (content.decode() if len(content) == 64 else None)
        _refused(path, "damaged|not an ONNX file")


def test_damage_is_told_before_what_comes_of_it():
    def damaged():
        raise OnnxplainError("damaged")

    def fails():
        raise OnnxplainError("cannot be read")

    assert open_beside(lambda: None, lambda: 3) == 3
    for start in (fails, lambda: 3):
        with pytest.raises(OnnxplainError, match="damaged"):
            open_beside(damaged, start)
    with pytest.raises(OnnxplainError, match="cannot be read"):
        open_beside(lambda: None, fails)


def test_on_the_command_line(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = bytearray(whole)
    content[_places(whole)["weights"][0]] ^= 1
    (tmp_path / "x.onnx").write_bytes(content)
    Image.new("RGB", (9, 9)).save("cat.png")
    for arguments in (["explain", "x.onnx", "cat.png", "--output", "out"], ["info", "x.onnx"]):
        done = CliRunner().invoke(cli.app, arguments)
        assert done.exit_code == 2 and done.stderr.count("\n") == 1
        assert "x.onnx was damaged or changed since export" in done.stderr and not (tmp_path / "out").exists()
