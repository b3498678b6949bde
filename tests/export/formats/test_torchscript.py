"""TorchScript artifacts: outputs and maps as of ONNX, only what is asked for; what is refused has its own file."""

import functools
import json
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from onnxplain.contract.outputs import ALWAYS
from onnxplain.demo.scenes import scene
from onnxplain.export import export_model, load_backbone
from onnxplain.export.formats.onnx_file import onnx_model, save_onnx
from onnxplain.lrp_graph import fuse
from onnxplain.runtime import METADATA_KEY, METHODS, Explainer, Metadata, OnnxplainError
from onnxplain.runtime.backends.formats import open_artifact
from tests.helpers.export_cases import (
    ILL_CONDITIONED,
    LABELS,
    OUTPUTS,
    build,
    error,
    load_script,
    preprocessing,
    samples,
)
from tests.reference import variants

NAMES = ("registers", "mean_pool", "swiglu_packed", "demo")
TARGETS = [3, 0, 4, 1]
SMALL = {"rise": {"masks": 20}, "smoothgrad": {"samples": 3}, "integrated_gradients": {"steps": 4}}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model by name in both formats, made once; the ONNX file has the metadata of the other."""
    folder = tmp_path_factory.mktemp("artifacts")

    @functools.cache
    def export(name):
        path, other = folder / f"{name}.pt", folder / f"{name}.onnx"
        if name == "demo":
            backbone = load_backbone("demo")
            report, model = export_model(backbone, path, "torchscript"), backbone.model
            pixels = [scene(seed).image.transpose(2, 0, 1) / 127.5 - 1 for seed in range(3)]
        else:
            model = build(name)
            given = {"labels": LABELS, "preprocessing": preprocessing(model)}
            report, pixels = export_model(model, path, "torchscript", **given), variants.pixels(model, 3)
        metadata = Explainer(path, "cpu", trust=True).metadata
        size = metadata.preprocessing.size
        save_onnx(onnx_model(fuse(model, torch.zeros(1, 3, *size)), size), metadata.to_json(), other)
        return SimpleNamespace(
            model=model,
            path=path,
            report=report,
            file=open_artifact(path, "cpu", 1, trust=True),
            onnx=open_artifact(other, "cpu", 1),
            explainers=[Explainer(each, "cpu", threads=1, trust=True) for each in (path, other)],
            pixels=np.stack(pixels).astype(np.float32),
        )

    return export


@pytest.mark.parametrize("name", ["registers", *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])])
def test_outputs_equal_those_of_onnx(name, exported):
    case = exported(name)
    assert case.report.passed
    given, expected = (file.run(case.pixels, TARGETS, OUTPUTS) for file in (case.file, case.onnx))
    assert list(given) == [*ALWAYS, *OUTPUTS]
    assert given["class_index"].dtype == np.int64 and (given["class_index"] == expected.pop("class_index")).all()
    for output, tensor in expected.items():
        assert given[output].shape == tensor.shape and given[output].dtype == np.float32, output
        errors = error(samples(output, given[output]), samples(output, tensor))
        if output in ILL_CONDITIONED:
            assert np.median(errors) <= 0.05, output
        else:
            assert errors.max() <= 1e-5, output


@pytest.mark.parametrize("name", ["registers", pytest.param("demo", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", METHODS)
def test_maps_equal_those_of_onnx(method, name, exported):
    case = exported(name)
    if METHODS[method].missing:
        pytest.skip(METHODS[method].missing)
    maps = [
        [result for row in explainer.explain_pixels(case.pixels, [3, 1, -1], method, **SMALL.get(method, {}))
         for result in row]
        for explainer in case.explainers
    ]  # fmt: skip
    assert [result.target for result in maps[0]] == [result.target for result in maps[1]]
    errors = [error(a.heatmap[None], b.heatmap[None])[0] for a, b in zip(*maps, strict=True)]
    dividing = not {"relevance", "pixel_relevance"}.isdisjoint(METHODS[method].passes)
    assert np.median(errors) <= 0.05 if dividing else max(errors) <= 1e-4


@pytest.mark.parametrize("name", ["registers", pytest.param("demo", marks=pytest.mark.slow)])
def test_images_and_targets_do_not_feel_each_other(name, exported):
    case = exported(name)
    together = case.file.run(case.pixels, TARGETS, OUTPUTS)
    for row, column in ((0, 0), (1, 3), (2, 1)):
        alone = case.file.run(case.pixels[row : row + 1], TARGETS[column : column + 1], OUTPUTS)
        for output in set(OUTPUTS) - ILL_CONDITIONED:
            part = together[output][row : row + 1]
            part = part[:, column : column + 1] if part.shape != alone[output].shape else part
            assert error(alone[output], part).max() <= 1e-5, output


def test_ranks_are_targets(exported):
    case = exported("registers")
    first, second = np.argsort(-case.file.run(case.pixels[:1], [0], [])["logits"][0])[:2]
    given, expected = (case.file.run(case.pixels[:1], each, ["pixel_gradient"]) for each in ([-1, -2], [first, second]))
    np.testing.assert_array_equal(given["pixel_gradient"], expected["pixel_gradient"])


class _Ops(TorchDispatchMode):
    """Counts what runs."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def _ops(call, *args):
    with _Ops() as ops:
        call(*args)
    return ops.names


PRODUCTS = ("mm", "addmm", "bmm", "linear", "matmul")  # in inference mode, the last two are not taken apart


def _products(case, *outputs):
    return sum(name in PRODUCTS for name in _ops(case.file.run, case.pixels, [0], outputs))


def test_only_what_is_asked_for_runs(exported):
    case = exported("registers")
    with torch.inference_mode():
        eager = sum(name in PRODUCTS for name in _ops(case.model, torch.from_numpy(case.pixels)))
    plain, layers = _products(case), len(case.model.blocks)
    assert 0 < eager <= plain <= eager + 2 * layers  # attention is written out as two products
    assert _products(case, "attention") == plain
    assert _products(case, "attention_mean") == plain + layers  # the mean over the heads is a product
    gradient = _products(case, "attention_gradient")
    assert plain < gradient <= 2.5 * plain
    assert _products(case, "attention_gradient", "attention", "gradient_attention_mean") == gradient + layers
    relevance = _products(case, "relevance")
    assert gradient < relevance <= 5 * plain
    assert relevance < _products(case, "relevance", "attention_gradient") <= relevance + gradient - plain
    assert _products(case, *OUTPUTS) < sum(_products(case, output) for output in OUTPUTS) / 2


@pytest.mark.parametrize("output", OUTPUTS)
def test_every_output_is_an_entry_point(output, exported):
    case, module = exported("registers"), load_script(exported("registers").path)
    given = torch.from_numpy(case.pixels), torch.tensor([TARGETS] * 3)
    with torch.inference_mode():
        alone = getattr(module, output)(*given)
        ops = _ops(getattr(module, output), *given)
    expected = case.file.run(case.pixels, TARGETS, [output])[output]
    assert alone.shape == expected.shape and error(alone.numpy(), expected).max() <= 1e-5
    assert sum(name in PRODUCTS for name in ops) == _products(case, output)


def test_flags_are_true_by_default_and_what_is_not_wanted_is_left_out(exported):
    case, module = exported("registers"), load_script(exported("registers").path)
    given = torch.from_numpy(case.pixels), torch.tensor([TARGETS] * 3)
    assert list(module(*given)) == [*ALWAYS, *OUTPUTS]
    assert "relevance" not in module(*given, with_relevance=False)
    assert {buffer.requires_grad for buffer in module.buffers()} == {False}


@pytest.mark.slow
def test_metadata_and_weights_are_stored_once(exported):
    case = exported("demo")
    held = {METADATA_KEY: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.load(case.path, _extra_files=held)
    assert Metadata.from_json(held[METADATA_KEY]) == case.file.metadata
    assert json.loads(held[METADATA_KEY])["parity"] == json.loads(json.dumps(case.report.to_dict()))
    weights = sum(parameter.nbytes for parameter in case.model.parameters())
    with zipfile.ZipFile(case.path) as archive:
        tensors = sum(item.file_size for item in archive.infolist() if "/data/" in item.filename)
        code = [archive.read(item) for item in archive.infolist() if "/code/" in item.filename]
    assert code and not any(b"artifacts" in text for text in code)
    assert weights <= tensors <= 1.001 * weights
    assert case.path.stat().st_size <= 1.1 * weights


@pytest.mark.slow
def test_some_passes_only(tmp_path):
    model = build("plain")
    given = {"labels": LABELS, "preprocessing": preprocessing(model), "passes": ["gradient"]}
    for _ in range(2):  # the second of one process as well
        export_model(model, tmp_path / "x.PT", "torchscript", **given)
    explainer = Explainer(tmp_path / "x.PT", "cpu", trust=True)
    assert explainer.metadata.passes == ("attention", "gradient")
    pixels = variants.pixels(model, 1)[0].permute(1, 2, 0).mul(50).add(128).clamp(0, 255).byte().numpy()
    assert set(explainer.tensors(pixels)) == {*ALWAYS, "attention", "attention_gradient"}
    with pytest.raises(OnnxplainError, match="relevance"):
        explainer.explain(pixels, method="relevance_rollout")
    with pytest.raises(OnnxplainError, match="PyTorch failed on 1 images with 1 targets"):
        open_artifact(tmp_path / "x.PT", "cpu", None, trust=True).run(np.zeros((1, 3, 8, 8), np.float32), [0], [])


def test_threads_and_devices(exported, monkeypatch):
    case, asked, set_threads = exported("registers"), [], torch.set_num_threads
    before = torch.get_num_threads()
    monkeypatch.setattr(torch, "set_num_threads", lambda count: (asked.append(count), set_threads(count)))
    open_artifact(case.path, "cpu", before + 1, trust=True).run(case.pixels, [0], [])
    assert asked == [before + 1, before]
    open_artifact(case.path, "cpu", None, trust=True).run(case.pixels, [0], [])
    assert len(asked) == 2 and torch.get_num_threads() == before
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Explainer(case.path, trust=True).device == "cpu"
    with pytest.raises(OnnxplainError, match="PyTorch cannot use `device` cuda here"):
        Explainer(case.path, "cuda", trust=True)
    with pytest.raises(OnnxplainError, match="there is no device 'tpu'; there are: auto, cpu, cuda"):
        Explainer(case.path, "tpu")
    with pytest.raises(OnnxplainError, match="`threads` must be an integer from 1 to 1024"):
        Explainer(case.path, threads=0)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", NAMES)
def test_cuda_gives_what_the_cpu_gives(name, exported):
    case = exported(name)
    file = open_artifact(case.path, "auto", None, trust=True)
    assert file.device == "cuda"
    given, expected = (each.run(case.pixels, TARGETS, OUTPUTS) for each in (file, case.file))
    for output in set(given) - ILL_CONDITIONED:
        assert error(given[output], expected[output]).max() <= 1e-4, output


def test_several_threads_at_once(exported):
    case = exported("registers")
    expected = case.file.run(case.pixels, TARGETS, OUTPUTS)
    with ThreadPoolExecutor(4) as pool:
        for given in pool.map(lambda _: case.file.run(case.pixels, TARGETS, OUTPUTS), range(8)):
            for output, tensor in expected.items():
                np.testing.assert_array_equal(given[output], tensor)
