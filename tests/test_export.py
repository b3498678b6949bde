"""Artifacts against the eager reference, and what the file holds; test_export_gate.py has what is refused."""

import copy
import functools
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from reference import chefer, eager, maps, variants
from timm.models.vision_transformer import VisionTransformer

import onnxplain
from onnxplain.export import export_model
from onnxplain.runtime import Explainer, Preprocessing

LABELS = ["ant", "bee", "cat", "dog", "eel"]
# swiglu_packed is made as DINOv2's giant: with LayerScale and registers
NAMES = ("plain", "distilled", "registers", "clip", "swiglu_packed", "mean_pool_non_square")
IMAGES, TARGETS = 12, [3, 0, 4, 1]
REVERSE = {"gradient": "attention_gradient", "relevance": "relevance"}
MOMENTS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
FACTOR = 10  # how many times eager float32's own error an ill-conditioned output may be off


def _build(name):
    if name != "mean_pool_non_square":
        return variants.build(name, torch.float32)
    model = VisionTransformer((48, 32), 8, num_classes=5, embed_dim=32, depth=2, num_heads=4, global_pool="avg")
    variants.randomise(model)
    return model.eval()


def _preprocessing(model):
    return {"size": model.patch_embed.img_size, **MOMENTS}


def _reference(model, pixels):
    """The artifact's outputs from eager PyTorch, in the dtype of the model."""
    pixels = pixels.to(model.head.weight.dtype)
    columns = []
    for target in TARGETS:
        chosen = torch.full((len(pixels),), target)
        logits, attention, gradient = eager.attention_and_gradient(model, pixels, chosen)
        columns.append((gradient, chefer.relevance(model, pixels, chosen)))
    gradient, relevance = (torch.stack(column, 1) for column in zip(*columns, strict=True))
    outputs = {"logits": logits, "attention": attention, "attention_gradient": gradient, "relevance": relevance}
    return {name: tensor.numpy() for name, tensor in outputs.items()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model by name, exported once: model, path, report, stages, session, explainer, pixels and eager's outputs."""
    folder = tmp_path_factory.mktemp("artifacts")

    @functools.cache
    def export(name):
        model, path, stages = _build(name), folder / "new" / f"{name}.onnx", []
        weights = copy.deepcopy(model.state_dict())
        report = export_model(model, path, labels=LABELS, preprocessing=_preprocessing(model), progress=stages.append)
        assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
        pixels = variants.pixels(model, IMAGES)
        return SimpleNamespace(
            model=model,
            path=path,
            report=report,
            stages=stages,
            session=onnxruntime.InferenceSession(path),
            explainer=Explainer(path, device="cpu", threads=1),
            pixels=pixels,
            single=_reference(model, pixels),
            exact=_reference(copy.deepcopy(model).double(), pixels),
        )

    return export


def _run(case, pixels=None, targets=TARGETS, **flags):
    pixels = case.pixels.numpy() if pixels is None else pixels
    feeds = {"pixels": pixels, "target": np.tile(np.array(targets, np.int64), (len(pixels), 1))}
    feeds |= {name: np.array(value) for name, value in flags.items()}
    names = [output.name for output in case.session.get_outputs()]
    return dict(zip(names, case.session.run(names, feeds), strict=True))


def _error(given, exact):
    """The greatest error relative to the greatest value, for each leading index."""
    axes = tuple(range(1, exact.ndim))
    return np.abs(given - exact).max(axes) / np.abs(exact).max(axes)


def _samples(tensor):
    return tensor.reshape(-1, *tensor.shape[2:])


def _relevance_limit(case):
    exact = _samples(case.exact["relevance"])
    return max(1e-5, FACTOR * np.median(_error(_samples(case.single["relevance"]), exact)))


@pytest.mark.parametrize("name", NAMES)
def test_tensors_equal_eager(name, exported):
    case = exported(name)
    given = _run(case)
    assert set(given) == set(case.exact)
    for output in ("logits", "attention"):
        assert given[output].shape == case.exact[output].shape and given[output].dtype == np.float32
        assert _error(given[output], case.exact[output]).max() <= 1e-5
    gradient, relevance = ((_samples(given[o]), _samples(case.exact[o])) for o in ("attention_gradient", "relevance"))
    assert _error(*gradient).max() <= 1e-5
    assert np.median(_error(*relevance)) <= _relevance_limit(case)


@pytest.mark.parametrize("name", NAMES)
def test_token_maps_equal_reference(name, exported):
    case = exported(name)
    place = {
        "readout": chefer.readout(case.model).detach().numpy(),
        "prefix": case.model.num_prefix_tokens,
        "grid": case.model.patch_embed.grid_size,
    }
    methods = {
        "rollout": lambda a, g, r: maps.rollout(a, **place),
        "grad_rollout": lambda a, g, r: maps.grad_rollout(a, g, **place),
        "transformer_attribution": lambda a, g, r: maps.transformer_attribution(g, r, **place),
    }
    for method, reference in methods.items():
        results = case.explainer.explain_pixels(case.pixels.numpy(), target=TARGETS, method=method)
        distances = []
        for row, column in np.ndindex(IMAGES, len(TARGETS)):
            tensors = case.exact["attention"][row], *(case.exact[output][row, column] for output in REVERSE.values())
            given, expected = results[row][column].tokens, reference(*tensors)
            assert given.shape == expected.shape
            a, b = given - given.mean(), expected - expected.mean()  # else all nearly constant maps are alike
            distances.append(1 - (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
            assert np.linalg.norm(given) == pytest.approx(np.linalg.norm(expected), rel=0.05)
        assert np.quantile(distances, 0.9 if method == "transformer_attribution" else 1) <= 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_batch_equals_single_runs(name, exported):
    case = exported(name)
    together = _run(case, case.pixels[:3].numpy())
    errors = {output: [] for output in together}
    for row, column in np.ndindex(3, len(TARGETS)):
        alone = _run(case, case.pixels[row : row + 1].numpy(), TARGETS[column : column + 1])
        for output, tensor in alone.items():
            expected = together[output][row, column] if output in REVERSE.values() else together[output][row]
            errors[output].append(_error(tensor.reshape(1, *expected.shape), expected[None]).item())
    assert np.median(errors.pop("relevance")) <= _relevance_limit(case)
    assert max(map(max, errors.values())) <= 1e-5


def test_ranks(exported):
    case = exported("plain")
    given = _run(case, targets=[-1, -2, -5])
    for row, order in enumerate(np.argsort(-given["logits"])):
        named = _run(case, case.pixels[row : row + 1].numpy(), order[[0, 1, 4]])
        assert _error(given["attention_gradient"][row], named["attention_gradient"][0]).max() <= 1e-5


def test_interface(exported):
    model = onnx.load(exported("plain").path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    given = {
        value.name: (
            value.type.tensor_type.elem_type,
            [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
        )
        for value in (*model.graph.input, *model.graph.output)
    }
    matrices = [2, 4, 17, 17]
    number, index, flag = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
    assert given == {
        "pixels": (number, ["batch", 3, 32, 32]),
        "target": (index, ["batch", "targets"]),
        "with_gradient": (flag, []),
        "with_relevance": (flag, []),
        "logits": (number, ["batch", 5]),
        "attention": (number, ["batch", *matrices]),
        "attention_gradient": (number, ["batch", "targets", *matrices]),
        "relevance": (number, ["batch", "targets", *matrices]),
    }
    assert model.opset_import[0].version == 20


@pytest.mark.parametrize("wanted", [(), ("gradient",), ("relevance",), ("gradient", "relevance")])
def test_flags(wanted, exported):
    case = exported("plain")
    everything, given = _run(case), _run(case, **{f"with_{name}": name in wanted for name in REVERSE})
    for name, output in REVERSE.items():
        if name not in wanted:
            assert given[output].size == 0 and given[output].shape[2:] == everything.pop(output).shape[2:]
    for output, tensor in everything.items():
        np.testing.assert_array_equal(given[output], tensor)


def test_what_only_a_pass_needs_stands_in_its_branch(exported):
    graph = ir.load(exported("plain").path).graph
    values, needed = [value for value in graph.outputs if value.name in ("logits", "attention")], set()
    while values:
        value = values.pop()
        if value is not None and value.producer() not in needed:
            needed.add(value.producer())
            values += value.producer().inputs if value.producer() else ()
    assert [node.op_type for node in graph if node not in needed] == ["If", "If"]


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_stored_once(name, exported):
    case = exported(name)
    model, stored = ir.load(case.path), Counter()
    for graph in model.graphs():
        stored.update(value.const_value.tobytes() for value in graph.initializers.values())
        attributes = [attribute for node in graph for attribute in node.attributes.values()]
        stored.update(a.as_tensor().tobytes() for a in attributes if a.type == ir.AttributeType.TENSOR)
    weights = [value.numpy().tobytes() for value in case.model.state_dict().values()]
    assert all(stored[weight] == 1 for weight in weights)
    assert sum(len(tensor) * times for tensor, times in stored.items()) <= 1.06 * sum(map(len, weights))


def test_file_stands_alone_and_tells_nothing_of_this_machine(exported):
    path = exported("plain").path
    assert {item.suffix for item in path.parent.iterdir()} == {".onnx"}
    content = path.read_bytes()
    for trace in (Path(onnxplain.__file__).parent, Path.home(), path.parent, "site-packages", "stack_trace", 'File "'):
        assert str(trace).encode() not in content


@pytest.mark.parametrize("name", NAMES)
def test_metadata(name, exported):
    case = exported(name)
    model, given = case.model, case.explainer.metadata
    assert (given.model, given.checkpoint) == (type(model).__name__, {"source": "in memory", "sha256": None})
    assert {key: getattr(given.preprocessing, key) for key in _preprocessing(model)} == _preprocessing(model)
    assert (given.labels, given.activation) == (tuple(LABELS), "softmax")
    assert (given.patch_grid, given.prefix_tokens) == (model.patch_embed.grid_size, model.num_prefix_tokens)
    assert given.readout == tuple(chefer.readout(model).nonzero().flatten().tolist())
    assert (given.layers, given.heads) == (len(model.blocks), model.blocks[0].attn.num_heads)
    assert given.passes == ("attention", *REVERSE)
    assert given.parity == case.report.to_dict() and given.parity["passed"]
    assert {row.output for row in case.report.rows} == {*case.exact, "transformer_attribution"}
    assert len(case.stages) == len(set(case.stages)) == 4


@pytest.mark.parametrize("passes", [("gradient",), ()])
def test_passes(passes, exported, tmp_path):
    case = exported("plain")
    path, options = tmp_path / "few.onnx", {"activation": "sigmoid", "opset": 18, "passes": passes}
    export_model(case.model, path, preprocessing=Preprocessing(**_preprocessing(case.model)), **options)
    few = SimpleNamespace(session=onnxruntime.InferenceSession(path), pixels=case.pixels)
    given = _run(few)
    assert set(given) == {"logits", "attention", *(REVERSE[name] for name in passes)}
    assert all(_error(tensor, case.exact[output]).max() <= 1e-5 for output, tensor in given.items())
    assert [value.name for value in few.session.get_overridable_initializers()] == [f"with_{name}" for name in passes]
    metadata = Explainer(path, device="cpu").metadata
    assert (metadata.passes, metadata.activation) == (("attention", *passes), "sigmoid")
    assert metadata.labels == ("0", "1", "2", "3", "4")
    assert onnx.load(path).opset_import[0].version == 18
