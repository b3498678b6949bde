"""Plain artifacts against full ones, through the Explainer, and what is in their files."""

import functools
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import skimage.data
import torch

from onnxplain.contract.outputs import HEATMAP
from onnxplain.export import GateError, export_model, heatmaps, load_backbone
from onnxplain.export.verify import portions
from onnxplain.lrp_graph.rules.vjp import GRADIENT
from onnxplain.runtime import METHODS, Explainer, OnnxplainError, available_methods
from onnxplain.runtime.images.geometry import interpolation
from tests.helpers.export_cases import LABELS, build, preprocessing
from tests.helpers.messages import message_of
from tests.reference import variants

IN_GRAPH = [name for name, method in METHODS.items() if method.in_graph]
TARGETS = [3, -1, 0, -2]
IMAGES = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.rocket()]
CLOSE = 1e-5


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """By the name of a model its full artifact, and plain ones by their methods, all exported once."""
    folder = tmp_path_factory.mktemp("heatmaps")

    @functools.cache
    def case(name):
        if name == "demo":
            model, options = load_backbone("demo"), {}
        else:
            model = build(name)
            options = {"labels": LABELS, "preprocessing": preprocessing(model)}
        full = folder / f"{name}.onnx"
        export_model(model, full, **options)

        @functools.cache
        def plain(*methods, **more):
            path = folder / f"{name}-{len(list(folder.iterdir()))}.onnx"
            report = export_model(model, path, heatmaps=list(methods), **options, **more)
            assert report.passed and {HEATMAP + method for method in methods} <= {row.output for row in report.rows}
            return Explainer(path, "cpu")

        return SimpleNamespace(full=Explainer(full, "cpu"), plain=plain, model=model, options=options)

    return case


def _assert_close(given, expected, limit):
    assert given.shape == expected.shape and given.dtype == expected.dtype
    assert np.abs(given - expected).max() <= limit * np.abs(expected).max()


def _limit(method, metadata):
    """How far two files' maps may be apart: where float32 itself is off, in relevance, two programs differ as much."""
    inexact = {"relevance", "pixel_relevance"} & set(METHODS[method].passes)
    return max(CLOSE, 10 * metadata.resolution[method]) if inexact else CLOSE


MODELS = ["registers", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mean_pool_non_square", "demo"))]


@pytest.mark.parametrize("name", MODELS)
def test_every_map_equals_that_of_the_full_artifact(name, cases):
    case = cases(name)
    full, plain = case.full, case.plain(*IN_GRAPH)
    assert [method.name for method in available_methods(plain.metadata)] == IN_GRAPH
    for image in IMAGES:
        given, expected = plain.explain_all(image, TARGETS), full.explain_all(image, TARGETS, methods=IN_GRAPH)
        for method in IN_GRAPH:
            limit = _limit(method, full.metadata)
            for one, other in zip(given[method], expected[method], strict=True):
                assert (one.target, one.score, one.method) == (other.target, pytest.approx(other.score), other.method)
                _assert_close(one.input_heatmap, other.input_heatmap, limit)
                _assert_close(one.tokens, other.tokens, limit)
                _assert_close(one.heatmap, other.heatmap, limit)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["registers", "mean_pool_non_square"])
def test_a_batch_equals_single_runs(name, cases):
    """Three images with four targets each, and twelve runs."""
    case = cases(name)
    artifact = case.plain(*IN_GRAPH, flags="none")._artifact
    pixels = variants.pixels(case.model, 3).numpy()
    outputs = [item.output for item in artifact.metadata.outputs]
    together = artifact.run(pixels, [3, 0, 4, -1], outputs)
    for image in range(3):
        for column, target in enumerate([3, 0, 4, -1]):
            alone = artifact.run(pixels[image : image + 1], [target], outputs)
            for output in outputs:
                limit = _limit(output.removeprefix(HEATMAP), artifact.metadata)
                _assert_close(together[output][image, column], alone[output][0, 0], limit)


@pytest.mark.parametrize("method", ["transformer_attribution", "rollout", "attnlrp", "vit_reciprocam"])
def test_a_file_of_one_method(method, cases):
    case = cases("registers")
    explainer = case.plain(method)
    session = explainer._artifact._session
    assert [item.name for item in session.get_inputs()] == ["pixels", "target"]
    assert not session.get_overridable_initializers()
    outputs = {item.name: item.shape for item in session.get_outputs()}
    assert list(outputs) == ["logits", "class_index", HEATMAP + method]
    assert outputs[HEATMAP + method] == ["batch", "targets", 32, 32]
    model = onnx.load(explainer._arguments[0])
    onnx.checker.check_model(model, full_check=True)
    assert "If" not in {node.op_type for node in model.graph.node}
    full = onnx.load(case.full._arguments[0])
    assert len(model.graph.node) < _nodes(full.graph)
    metadata = explainer.metadata
    assert metadata.heatmaps == {method: METHODS[method].arguments({}, metadata.layers)}
    assert (metadata.flags, metadata.input) == ("none", "pixels")


def _nodes(graph):
    return sum(1 + sum(_nodes(each.g) for each in node.attribute if each.HasField("g")) for node in graph.node)


def test_weights_that_the_heatmaps_do_not_need_are_not_in_the_file(cases):
    case = cases("registers")
    names = {item.name for item in onnx.load(case.plain("rollout")._arguments[0]).graph.initializer}
    assert "heatmap_readout" in names and "blocks.0.attn.qkv.weight.T" in names
    flat = onnx.load(case.plain("attnlrp")._arguments[0])
    assert not {"heatmap_readout", "heatmap_rows"} & {item.name for item in flat.graph.initializer}


def test_required_flags(cases):
    """Each has an entry for each image: a map that no image wants has no targets, one that any wants is for all."""
    session = cases("registers").plain(*IN_GRAPH)._artifact._session
    flags = [f"with_{HEATMAP}{name}" for name in IN_GRAPH]
    inputs = {item.name: (item.type, item.shape) for item in session.get_inputs()}
    assert list(inputs) == ["pixels", "target", *flags]
    assert all(inputs[flag] == ("tensor(bool)", ["batch"]) for flag in flags)
    pixels = variants.pixels(cases("registers").model, 2).numpy()
    feeds = {"pixels": pixels, "target": np.array([[0, 1, 2]] * 2)}
    wanted = {"rollout": [False, True], "gradient": [True, True]}
    feeds |= {f"with_{HEATMAP}{name}": np.array(wanted.get(name, [False, False])) for name in IN_GRAPH}
    names = [item.name for item in session.get_outputs()]
    given = dict(zip(names, session.run(None, feeds), strict=True))
    for name in IN_GRAPH:
        assert given[HEATMAP + name].shape == ((2, 3, 32, 32) if name in wanted else (2, 0, 32, 32)), name
    with pytest.raises(Exception, match="with_heatmap_rollout"):
        session.run(None, {key: value for key, value in feeds.items() if key != f"with_{HEATMAP}rollout"})


def test_optional_flags(cases):
    explainer = cases("registers").plain("rollout", "gradient", flags="optional")
    session = explainer._artifact._session
    assert [item.name for item in session.get_inputs()] == ["pixels", "target"]
    optional = {item.name for item in session.get_overridable_initializers()}
    assert optional == {"with_heatmap_gradient", "with_heatmap_rollout"}
    given = explainer.tensors(IMAGES[0], 1, ["heatmap_rollout"])
    assert list(given) == ["logits", "class_index", "heatmap_rollout"]
    everything = explainer.tensors(IMAGES[0], 1)
    assert list(everything) == ["logits", "class_index", "heatmap_rollout", "heatmap_gradient"]
    np.testing.assert_array_equal(everything["heatmap_rollout"], given["heatmap_rollout"])


def test_parameters_are_fixed(cases):
    case = cases("registers")
    chosen = {"rollout": {"head_fusion": "max", "discard_ratio": 0.4, "start_layer": 1}, "raw-attention": {"layer": 0}}
    path = case.plain("rollout")._arguments[0].parent / "chosen.onnx"
    export_model(case.model, path, heatmaps=chosen, **case.options)
    plain = Explainer(path, "cpu")
    assert plain.metadata.heatmaps == {"rollout": chosen["rollout"], "raw_attention": {"layer": 0}}
    for method, parameters in chosen.items():
        given = plain.explain(IMAGES[0], method=method)
        expected = case.full.explain(IMAGES[0], method=method, **parameters)
        _assert_close(given.input_heatmap, expected.input_heatmap, CLOSE)
        np.testing.assert_array_equal(plain.explain(IMAGES[0], 0, method, **parameters).tokens, given.tokens)
    refused = message_of(plain.explain, IMAGES[0], method="rollout", head_fusion="mean")
    assert "exported with `head_fusion` max, got mean; leave it out" in refused
    assert "`layer` must be" in message_of(plain.explain, IMAGES[0], method="raw_attention", layer=9)
    assert "no parameter `start_layer`" in message_of(plain.explain, IMAGES[0], method="raw_attention", start_layer=0)
    refused = message_of(plain.explain, IMAGES[0], method="gmar")
    assert "no heatmap of gmar; export it again with `heatmaps` rollout,raw_attention,gmar, or use one of" in refused
    refused = message_of(plain.explain, IMAGES[0], method="attention_flow")
    assert "no heatmap of attention_flow; it cannot be in a graph: export it again without `heatmaps`" in refused
    assert "has no pass attention; it has: heatmap_" in message_of(plain.tensors, IMAGES[0], passes=["attention"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"heatmaps": ["attention_flow"]},
            "attention_flow cannot be computed in the graph: its function works on NumPy",
        ),
        ({"heatmaps": ["rise"]}, "rise cannot be computed in the graph: it needs many runs"),
        ({"heatmaps": ["magic"]}, "there is no method 'magic'"),
        ({"heatmaps": "rollout"}, r"`heatmaps` must be a list .*write \['rollout'\]"),
        ({"heatmaps": 3}, "`heatmaps` must be a list"),
        ({"heatmaps": []}, "`heatmaps` is empty"),
        ({"heatmaps": ["rollout", "Rollout"]}, "rollout is given twice"),
        ({"heatmaps": {"rollout": 1}}, "parameters of rollout must be a mapping"),
        (
            {"heatmaps": {"rollout": {"start_layer": 9}}},
            r"`start_layer` must be .* \(this model has layers 0 to 1\), got 9",
        ),
        ({"heatmaps": {"rollout": {"layer": 0}}}, "has no parameter `layer`"),
        ({"heatmaps": ["rollout"], "passes": ["gradient"]}, "`heatmaps` and `passes` exclude each other"),
        ({"heatmaps": ["rollout"], "format": "torchscript"}, "`heatmaps` are for files in the format onnx"),
        ({"heatmaps": ["rollout"], "flags": "required"}, "`flags` needs two or more methods in `heatmaps`"),
        ({"heatmaps": ["rollout", "gmar"], "flags": "maybe"}, "there is no kind of flags 'maybe'"),
        ({"flags": "none"}, "`flags` needs two or more methods in `heatmaps`"),
    ],
)
def test_what_is_refused(options, message, tmp_path, plain):
    path = tmp_path / ("x.pt" if "format" in options else "x.onnx")
    given = {"labels": LABELS, "preprocessing": preprocessing(plain), **options}
    with pytest.raises(OnnxplainError, match=message):
        export_model(plain, path, **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["legrad", "gmar", "full", "input_x_gradient"])
def test_a_method_alone(method, cases):
    """Without flags and branches, for a model with registers."""
    case = cases("registers")
    given, expected = case.plain(method).explain(IMAGES[1], 2), case.full.explain(IMAGES[1], 2, method)
    _assert_close(given.input_heatmap, expected.input_heatmap, _limit(method, case.full.metadata))


@pytest.mark.slow
@pytest.mark.parametrize("large", [False, True])
def test_the_gate_finds_wrong_heatmaps(large, tmp_path, plain, monkeypatch):
    """Against the runtime's functions of what autograd gives: wrong gradients, wrong maps."""
    options = {"labels": LABELS, "preprocessing": preprocessing(plain)}
    if large:  # the outputs are compared in portions
        monkeypatch.setattr(portions, "MAX_RAW", 1)
    methods = ["rollout", "grad_rollout", "gradient"]
    assert export_model(plain, tmp_path / "right.onnx", heatmaps=methods, **options).passed
    with monkeypatch.context() as patch:
        patch.setattr(heatmaps, "interpolation", lambda *lengths: 1.0001 * interpolation(*lengths))
        failed = _failed(plain, tmp_path / "wrong.onnx", ["rollout", "gradient"], options)
    assert failed == {"heatmap_rollout"}
    with monkeypatch.context() as patch:
        patch.setitem(GRADIENT, torch.ops.aten.gelu, GRADIENT[torch.ops.aten.relu])
        failed = _failed(plain, tmp_path / "wrong.onnx", methods, options)
    assert failed == {"heatmap_grad_rollout", "heatmap_gradient"}
    assert [path.name for path in tmp_path.iterdir()] == ["right.onnx"]


def _failed(model, path, methods, options):
    with pytest.raises(GateError) as caught:
        export_model(model, path, heatmaps=methods, **options)
    return {row.output for row in caught.value.report.rows if not row.passed}
