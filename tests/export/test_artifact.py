"""Artifacts against the eager reference, and what the file holds; verify/test_gate.py has what is refused."""

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

import onnxplain
from onnxplain.contract.lrp_rules import RULES
from onnxplain.contract.outputs import OUTPUTS as TABLE
from onnxplain.export import export_model
from onnxplain.runtime import PASSES, Explainer, Preprocessing
from tests.helpers.export_cases import (
    LABELS,
    NAMES,
    OUTPUTS,
    PER_TARGET,
    TARGETS,
    always_needed,
    build,
    error,
    limit,
    preprocessing,
    reference,
    run,
    samples,
    worst,
)
from tests.reference import attnlrp, chefer, maps, variants

IMAGES = 12
GAMMAS = {"gamma_conv": 0.25, "gamma_linear": 0.05, "gamma_attention": 0.0}
LAYERED = {name: item for name, item in TABLE.items() if not item.pool}
"""The outputs of models without an attention pool; test_pools.py has those with one."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model by name, exported once: model, path, report, stages, session, explainer, pixels and eager's outputs."""
    folder = tmp_path_factory.mktemp("artifacts")

    @functools.cache
    def export(name):
        model, path, stages = build(name), folder / "new" / f"{name}.onnx", []
        weights = copy.deepcopy(model.state_dict())
        report = export_model(model, path, labels=LABELS, preprocessing=preprocessing(model), progress=stages.append)
        assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
        pixels = variants.pixels(model, IMAGES)
        return SimpleNamespace(
            model=model,
            path=path,
            report=report,
            stages=stages,
            session=onnxruntime.InferenceSession(path),
            explainer=Explainer(path, device="cpu", threads=1),
            pixels=pixels.numpy(),
            single=reference(model, pixels),
            exact=reference(copy.deepcopy(model).double(), pixels),
        )

    return export


@pytest.mark.parametrize("name", NAMES)
def test_tensors_equal_eager(name, exported):
    case = exported(name)
    given = run(case.session, case.pixels)
    assert set(given) == set(case.exact)
    for output, exact in case.exact.items():
        assert given[output].shape == exact.shape and given[output].dtype == np.float32
        errors = error(samples(output, given[output]), samples(output, exact))
        assert worst(output, errors) <= limit(output, case.single, case.exact), output


@pytest.mark.parametrize("name", NAMES)
def test_token_maps_equal_those_of_the_reference(name, exported):
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
    for method, by_hand in methods.items():
        results = case.explainer.explain_pixels(case.pixels, target=TARGETS, method=method)
        distances = []
        for row, column in np.ndindex(IMAGES, len(TARGETS)):
            of_class = (case.exact[output][row, column] for output in ("attention_gradient", "relevance"))
            tensors = case.exact["attention"][row], *of_class
            given, expected = results[row][column].tokens, by_hand(*tensors)
            assert given.shape == expected.shape
            a, b = given - given.mean(), expected - expected.mean()  # else all nearly constant maps are alike
            distances.append(1 - (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
            assert np.linalg.norm(given) == pytest.approx(np.linalg.norm(expected), rel=0.05)
        assert np.quantile(distances, 0.9 if method == "transformer_attribution" else 1) <= 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_batch_equals_single_runs(name, exported):
    case = exported(name)
    together = run(case.session, case.pixels[:3])
    errors = {output: [] for output in together}
    for row, column in np.ndindex(3, len(TARGETS)):
        alone = run(case.session, case.pixels[row : row + 1], TARGETS[column : column + 1])
        for output, tensor in alone.items():
            expected = together[output][row, column] if output in PER_TARGET else together[output][row]
            errors[output].append(error(tensor.reshape(1, *expected.shape), expected[None]).item())
    for output, found in errors.items():
        assert worst(output, found) <= limit(output, case.single, case.exact), output


def test_ranks(exported):
    case = exported("plain")
    given = run(case.session, case.pixels, [-1, -2, -5])
    for row, order in enumerate(np.argsort(-given["logits"])):
        named = run(case.session, case.pixels[row : row + 1], order[[0, 1, 4]])
        for output in ("attention_gradient", "pixel_gradient", "reciprocam"):
            assert error(given[output][row], named[output][0]).max() <= 1e-5


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
    lengths = {"layers": 2, "heads": 4, "tokens": 17, "channels": 3, "height": 32, "width": 32, "rows": 4, "columns": 4}
    lengths["token_width"] = 32
    number, index, flag = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
    assert given == {
        "pixels": (number, ["batch", 3, 32, 32]),
        "target": (index, ["batch", "targets"]),
        "logits": (number, ["batch", 5]),
        "class_index": (index, ["batch", "targets"]),
        **{item.flag: (flag, []) for item in LAYERED.values()},
        **{
            item.output: (number, ["batch", *["targets"] * item.per_target, *(lengths[axis] for axis in item.axes)])
            for item in LAYERED.values()
        },
    }
    assert model.opset_import[0].version == 20


WANTED = [(), ("attention",), ("attention_gradient", "relevance"), ("relevance_positive", "pixel_relevance")]
WANTED += [("attention_mean", "gradient_attention_max"), ("reciprocam", "pixel_cp_lrp", "layer_gradient_positive")]


@pytest.mark.parametrize("wanted", WANTED, ids=",".join)
def test_flags(wanted, exported):
    case = exported("plain")
    everything = run(case.session, case.pixels)
    given = run(case.session, case.pixels, **{item.flag: name in wanted for name, item in LAYERED.items()})
    for output in OUTPUTS:
        if output not in wanted:
            assert given.pop(output).size == 0
    for output, tensor in given.items():
        np.testing.assert_array_equal(tensor, everything[output])


def test_what_only_an_output_needs_stands_in_a_branch(exported):
    """Beside the way to the logits and the classes there is only arithmetic on weights and shapes."""
    graph = ir.load(exported("plain").path).graph
    needed = always_needed(graph)
    varying = {value for node in needed if node for value in node.outputs} | set(graph.inputs)
    beside = [node for node in graph if node not in needed and not varying.isdisjoint(node.inputs)]
    assert {node.op_type for node in beside} <= {
        *("If", "Or", "Shape", "Gather", "Concat", "Unsqueeze", "Squeeze", "Reshape", "Mul", "Cast", "Slice")
    }
    choices = [node for node in graph if node.op_type == "If"]
    assert len(OUTPUTS) <= len(choices) <= 2 * len(OUTPUTS)


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
    white = case.pixels[0].nbytes  # a constant of the z-B rule
    assert sum(len(tensor) * times for tensor, times in stored.items()) <= 1.06 * sum(map(len, weights)) + white


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
    assert {key: getattr(given.preprocessing, key) for key in preprocessing(model)} == preprocessing(model)
    assert (given.labels, given.activation) == (tuple(LABELS), "softmax")
    assert (given.patch_grid, given.prefix_tokens) == (model.patch_embed.grid_size, model.num_prefix_tokens)
    assert given.readout == tuple(chefer.readout(model).nonzero().flatten().tolist())
    assert (given.layers, given.heads) == (len(model.blocks), model.blocks[0].attn.num_heads)
    block = model.blocks[0]
    widest = max(block.attn.qkv.out_features, block.mlp.fc1.out_features)
    assert (given.token_width, given.hidden_width) == (model.embed_dim, widest)
    assert given.passes == tuple(PASSES)
    assert given.rules == RULES
    assert given.parity == case.report.to_dict() and given.parity["passed"]
    assert {row.output for row in case.report.rows} == {"class_index", *case.exact}
    assert len(case.stages) == len(set(case.stages)) == 4


@pytest.mark.parametrize("passes", [("gradient",), ("layer_gradient", "pixel_gradient"), ()])
def test_passes(passes, exported, tmp_path):
    case = exported("plain")
    path, options = tmp_path / "few.onnx", {"activation": "sigmoid", "opset": 18, "passes": ["attention", *passes]}
    export_model(case.model, path, preprocessing=Preprocessing(**preprocessing(case.model)), **options)
    session = onnxruntime.InferenceSession(path)
    given = run(session, case.pixels)
    there = [item for item in LAYERED.values() if {"attention", *passes} >= set(item.passes)]
    assert set(given) == {"logits", *(item.output for item in there)}
    assert all(error(tensor, case.exact[output]).max() <= 1e-5 for output, tensor in given.items())
    assert {value.name for value in session.get_overridable_initializers()} == {item.flag for item in there}
    metadata = Explainer(path, device="cpu").metadata
    assert (metadata.passes, metadata.activation) == (("attention", *passes), "sigmoid")
    assert metadata.labels == ("0", "1", "2", "3", "4")
    assert onnx.load(path).opset_import[0].version == 18


def test_rules_round_trip(exported, tmp_path):
    """alpha, beta and the gammas reach the graph and the metadata; PyTorch agrees in float64."""
    case, path = exported("plain"), tmp_path / "rules.onnx"
    options = {"labels": LABELS, "preprocessing": preprocessing(case.model), "alpha": 2, **GAMMAS}
    report = export_model(case.model, path, passes=["pixel_relevance", "pixel_attnlrp", "pixel_cp_lrp"], **options)
    assert report.passed and Explainer(path).metadata.rules == {"alpha": 2.0, "beta": 1.0, **GAMMAS}
    assert {row.output for row in report.rows} >= {"pixel_attnlrp", "pixel_cp_lrp"}
    given = run(onnxruntime.InferenceSession(path), case.pixels)
    exact, x = copy.deepcopy(case.model).double(), torch.from_numpy(case.pixels).double()
    for output, by_hand in {
        "pixel_relevance": lambda target: chefer.full(exact, x, target, 2, 1),
        "pixel_attnlrp": lambda target: attnlrp.attnlrp(exact, x, target, attnlrp.Gamma(*GAMMAS.values())),
        "pixel_cp_lrp": lambda target: attnlrp.cp_lrp(exact, x, target, attnlrp.Gamma(*GAMMAS.values())),
    }.items():
        for column, target in enumerate(TARGETS):
            expected = by_hand(torch.full((IMAGES,), target)).detach().numpy()
            errors = error(given[output][:, column], expected)
            assert np.median(errors) <= (1e-2 if output == "pixel_relevance" else 1e-5)
