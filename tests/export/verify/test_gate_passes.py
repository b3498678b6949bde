"""A pass that is translated wrongly costs itself alone, and nothing where somebody named it; what float32 resolves."""

import sys
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onnxplain.export import GateError, export_model
from onnxplain.export.formats import torchscript_file
from onnxplain.export.formats.table import WRITERS
from onnxplain.export.verify import limits, parity, portions, resolution
from onnxplain.export.verify.op_by_op import OnnxOpByOp
from onnxplain.export.verify.resolution import Resolution
from onnxplain.runtime import METHODS, Explainer, OnnxplainError
from onnxplain.runtime.backends.onnx import OnnxArtifact
from tests.helpers.export_cases import LABELS, PREPROCESSING, scaled
from tests.reference import variants

OPTIONS = {"labels": LABELS, "preprocessing": PREPROCESSING}
PASSES = ["gradient", "relevance", "pixel_gradient"]


@pytest.fixture
def translated_wrongly(made_once, monkeypatch):
    """Have the file's outputs of these names be wrong, as often as it is written."""
    row = WRITERS["onnx"]

    def damage(*outputs, factor=1.02):

        def wrong(graph, *given):
            file = row.translate(graph, *given)
            for output in outputs:
                if output in graph.names:
                    scaled(output, factor)(file, None)
            return file

        monkeypatch.setitem(WRITERS, "onnx", replace(row, translate=wrong))
        monkeypatch.setattr(sys.modules["onnxplain.lrp_graph.fuse"], "ALL", tuple(PASSES))  # the others cost time

    return damage


@pytest.mark.parametrize(
    ("outputs", "lost"),
    [
        (["relevance", "relevance_positive"], "relevance"),
        (["pixel_gradient"], "pixel_gradient"),
        (["attention_gradient", "gradient_attention_mean", "gradient_relevance_positive"], "gradient"),
        (["gradient_relevance_positive"], "relevance"),
    ],
)
def test_wrong_pass_costs_itself_alone(outputs, lost, plain, tmp_path, translated_wrongly):
    translated_wrongly(*outputs)
    report = export_model(plain, tmp_path / "x.onnx", **OPTIONS)
    metadata = Explainer(tmp_path / "x.onnx", "cpu").metadata
    assert metadata.passes == ("attention", *(name for name in PASSES if name != lost))
    (note,) = report.notes
    assert note.startswith(f"{lost}: left out, ") and f"{outputs[0]} {limits.EQUAL}: 0.02 against 1e-0" in note
    assert report.passed and metadata.parity["notes"] == [note]


def test_pass_that_was_named_and_what_is_always_there_are_not_left_out(plain, tmp_path, translated_wrongly):
    path = tmp_path / "x.onnx"
    translated_wrongly("relevance")
    with pytest.raises(GateError, match=r"relevance error against PyTorch, in float64: 0.02 against 1e-07\)"):
        export_model(plain, path, passes=["relevance"], **OPTIONS)
    translated_wrongly("attention")
    with pytest.raises(GateError, match="attention error against PyTorch"):
        export_model(plain, path, **OPTIONS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["head_bias", pytest.param("patch_embed_proj_weight", marks=pytest.mark.slow)])
def test_damaged_torchscript_is_refused(name, tmp_path, monkeypatch):
    def translated(graph, size, *_):
        held = BytesIO()  # what is not saved shares its weights with the model
        torch.jit.save(torchscript_file.torchscript_model(graph, size), held)
        script = torch.jit.load(BytesIO(held.getvalue()))
        (weight,) = (weight for key, weight in script.named_buffers() if key.endswith(name))
        weight.mul_(1.0001)
        return script

    monkeypatch.setitem(WRITERS, "torchscript", replace(WRITERS["torchscript"], translate=translated))
    with pytest.raises(GateError, match="logits error against PyTorch, in float64"):
        export_model(
            variants.build("plain", torch.float32), tmp_path / "x.pt", "torchscript", passes=["gradient"], **OPTIONS
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [1.0, 1.0001])
def test_reciprocam_of_many_patches_is_compared_for_one_image(
    factor, dtype, plain, tmp_path, translated_wrongly, monkeypatch
):
    """Its copies of an image would not fit in memory twice; where they are still larger, float32 comes first."""
    monkeypatch.setattr(portions, "MAX_COPIES", 0)
    if dtype == torch.float32:
        monkeypatch.setattr(portions, "MAX_COPIES_IN_DOUBLE", 0)
    batches, run, in_runtime = [], OnnxOpByOp.run, []
    note = lambda *given: batches.append((len(given[1]), given[1].dtype, *given[3])) or run(*given)  # noqa: E731
    monkeypatch.setattr(OnnxOpByOp, "run", note)
    run_it = OnnxArtifact.run
    monkeypatch.setattr(OnnxArtifact, "run", lambda *given: in_runtime.extend(given[-1]) or run_it(*given))
    path = tmp_path / "x.onnx"
    if factor == 1:
        assert export_model(plain, path, passes=["reciprocam"], **OPTIONS).passed
        assert [item for item in batches if "reciprocam" in item] == [(1, dtype, "reciprocam")]
        assert ("reciprocam" in in_runtime) == (dtype == torch.float64)
    else:
        translated_wrongly("reciprocam", factor=factor)
        with pytest.raises(GateError, match=r"reciprocam error against PyTorch, in float64: 0\.0001 "):
            export_model(plain, path, passes=["reciprocam"], **OPTIONS)


def test_what_float64_cannot_resolve_is_not_asked_for():
    """The limit is a multiple of what a pixel changed by its last bit does in PyTorch, but not any multiple."""
    for error, noise, limit in (
        (1e-5, [], 1e-7), (1e-5, [1e-12, 1e-11], 1e-7), (1e-5, [1e-7, 1e-12], 1e-4), (2e-3, [0.1], 1e-3)
    ):  # fmt: skip
        (row,) = limits.checks("relevance", limits.Errors([error, 1e-9], noise), by_autograd=False)
        assert row.limit == pytest.approx(limit) and row.passed == (error <= limit)


class Grouped(nn.Module):
    """A block whose four heads of queries share two of keys and values, as PyTorch's fused attention has it."""

    def __init__(self, fused: bool = True) -> None:
        super().__init__()
        self.fused = fused
        self.patches, self.position = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.randn(16, 16))
        self.first, self.last = nn.LayerNorm(16), nn.LayerNorm(16)
        self.q, self.kv, self.out, self.head = (nn.Linear(16, n) for n in (16, 16, 16, 5))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(pixels).flatten(2).transpose(1, 2) + self.position
        h = self.first(x)
        q = self.q(h).unflatten(2, (4, 4)).transpose(1, 2)
        k, v = self.kv(h).unflatten(2, (2, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        else:
            k, v = (torch.stack((one, one), 2).flatten(1, 2) for one in (k, v))
            mixed = (q @ k.mT / 2).softmax(-1) @ v
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return self.head(self.last(x).mean(1))


def test_fewer_heads_of_keys_than_of_queries(tmp_path):
    torch.manual_seed(0)
    model = Grouped()
    report = export_model(model, tmp_path / "x.onnx", passes=["gradient"], **OPTIONS)
    assert report.passed
    explainer = Explainer(tmp_path / "x.onnx", "cpu")
    assert explainer.metadata.heads == 4
    plain = Grouped(False)
    plain.load_state_dict(model.state_dict())
    image = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    file = explainer._artifact.run(image, [2], [])
    np.testing.assert_allclose(file["logits"], plain(torch.from_numpy(image)).detach(), atol=1e-5)


class Moody(nn.Module):
    """A model that does not work in float64, as some do that compute a part by themselves in float32."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, pixels: Tensor) -> Tensor:
        if torch.compiler.is_exporting() or pixels.dtype == torch.float32:
            return self.inner(pixels)
        raise RuntimeError("expected Float\nbut found Double")


def test_model_that_cannot_be_run_in_float64_is_named_in_one_line(tmp_path):
    model = Moody(variants.build("plain", torch.float32))
    with pytest.raises(OnnxplainError) as caught:
        export_model(model, tmp_path / "x.onnx", passes=["gradient"], **OPTIONS)
    assert str(caught.value) == "the model cannot be run in PyTorch to compare with: expected Float but found Double"


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_eager_pytorch_is_a_sample_of_what_a_precision_resolves(precision, tmp_path, monkeypatch):
    """Where a map is doubtful: PyTorch's, for pixels changed by their last bit, here by much more."""
    monkeypatch.setattr(parity, "last_bit", lambda pixels: pixels + 0.1)
    model = variants.build("registers", torch.float32)
    options = {"passes": ["gradient"], "precision": precision, **OPTIONS}
    monkeypatch.setattr(resolution, "DOUBTFUL", 1)
    exact = export_model(model, tmp_path / "x.onnx", **options).resolution
    monkeypatch.setattr(resolution, "DOUBTFUL", 0)
    doubtful = export_model(model, tmp_path / "y.onnx", **options).resolution
    assert exact["grad_rollout"] < 0.02 < 0.07 < doubtful["grad_rollout"]
    assert exact["rollout"] < 1e-3 < 0.02 < doubtful["rollout"]


def test_resolution_is_the_worst_error_of_a_map(tmp_path):
    """Against the same figure worked out from the artifact's own maps, in float32 and with noise added."""
    model = variants.build("registers", torch.float32)
    export_model(model, tmp_path / "x.onnx", passes=["gradient", "relevance", "pixel_gradient"], **OPTIONS)
    explainer = Explainer(tmp_path / "x.onnx", "cpu")
    metadata = explainer.metadata
    assert set(metadata.resolution) == {
        method.name
        for method in METHODS.values()
        if set(method.passes) <= set(metadata.passes) and not method.runs and not method.extra
    }
    assert all(1e-9 < share < 0.1 for share in metadata.resolution.values())
    assert metadata.resolution["last_layer"] > 10 * metadata.resolution["rollout"]

    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(3, 32, 32)).astype(np.float32)
    resolution = Resolution(metadata)
    names = [item.output for item in metadata.outputs]
    given = explainer._artifact.run(pixels[None], [1], names)
    exact = {name: tensor[0].astype(np.float64) for name, tensor in given.items()}
    resolution.add(exact, exact, pixels)
    assert set(resolution.worst().values()) == {0.0} and not resolution.doubtful
    resolution.add(exact | {"pixel_gradient": exact["pixel_gradient"] * 1.25}, exact, pixels)
    resolution.add(exact | {"attention_mean": exact["attention_mean"] * np.nan}, exact, pixels)
    shares = resolution.worst()
    assert shares["gradient"] == shares["input_x_gradient"] == 0.25
    assert shares["raw_attention"] == shares["rollout"] == 1 and shares["last_layer"] == 0
    assert resolution.doubtful == {"pixel_gradient", "attention_mean"}
