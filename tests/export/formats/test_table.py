"""The tables of file formats: one row for each in the contract, and what export and the runtime attach to it."""

from pathlib import Path

import pytest
import torch

from onnxplain.contract.formats import DEFAULT, FORMATS, check_format, format_of
from onnxplain.export import Backbone
from onnxplain.export.artifact import fuse_passes, translate, write
from onnxplain.export.formats.table import WRITERS
from onnxplain.export.plan import prepare
from onnxplain.runtime import Explainer, OnnxplainError, Preprocessing
from onnxplain.runtime.backends.formats import OPEN
from tests.reference import variants


def _backbone(has_classes: bool = True) -> Backbone:
    model, preprocessing = variants.build("plain", torch.float32), Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3)
    names = tuple(map(str, range(variants.CLASSES)))
    return Backbone("plain", model, preprocessing, names, "softmax", "random", None, None if has_classes else "own")


def test_every_format_is_in_every_table() -> None:
    assert FORMATS.keys() == WRITERS.keys() == OPEN.keys()
    assert len({item.suffix for item in FORMATS.values()}) == len(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_suffixes_tell_formats_apart(name: str) -> None:
    suffix = FORMATS[name].suffix
    assert format_of(f"x{suffix}") == format_of(Path(f"X{suffix.upper()}")) == name
    check_format(name, f"x{suffix}")
    assert format_of("x.bin") == DEFAULT


def test_what_a_file_would_not_be_known_as_is_refused() -> None:
    with pytest.raises(OnnxplainError, match=r"x\.onnx would be taken for onnx, .*a name that ends in \.pt$"):
        check_format("torchscript", "x.onnx")


@pytest.mark.parametrize("name", FORMATS)
def test_the_steps_of_export_write_a_file_without_a_comparison(name: str, tmp_path: Path) -> None:
    """As the benchmarks take them: what is written can be explained with, and says that nothing was compared."""
    path = tmp_path / f"x{FORMATS[name].suffix}"
    plan = prepare(_backbone(), name, ["gradient"])
    graph, notes = fuse_passes(plan)
    write(translate(plan, graph), path)
    explainer = Explainer(path, "cpu", trust=True)
    assert (explainer.metadata.passes, dict(explainer.metadata.parity), notes) == (("attention", "gradient"), {}, ())
    assert explainer.explain_pixels(torch.zeros(1, 3, 32, 32).numpy(), target=0)[0].tokens.shape == (4, 4)


def test_what_is_no_model() -> None:
    with pytest.raises(OnnxplainError, match=r"a model must be an nn\.Module or what load_backbone gives, got int"):
        prepare(3)  # type: ignore[arg-type]


def test_errors_name_python_arguments() -> None:
    with pytest.raises(
        OnnxplainError, match="its file can have attention and features only: leave out `passes`, or give it classes"
    ):
        prepare(_backbone(has_classes=False), passes=["gradient"])
