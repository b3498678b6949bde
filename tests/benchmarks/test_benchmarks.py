"""What could be wrong in the benchmarks and still print a table."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import copies, cost, files, processes, profile, subjects
from benchmarks.results import Case, Record
from benchmarks.ways import OUTPUTS, WAYS
from onnxplain.export import Backbone
from onnxplain.runtime import Preprocessing
from onnxplain.runtime.backends.onnx import OnnxArtifact
from onnxplain.runtime.batch_size import MOST_TARGETS
from tests.reference import chefer, eager, published, variants

CASE = Case("a machine", "vit_tiny", 32, "cpu", 1, 1, 1)


# The reference as published.


@pytest.mark.parametrize("name", ["deeper", "distilled", "registers", "mean_pool_no_class"])
def test_reference_as_published_gives_the_same_maps(name: str) -> None:
    model = variants.build(name)
    pixels, target = variants.pixels(model, batch=2), variants.targets(2)
    expected = chefer.transformer_attribution(model, pixels, target)
    actual = published.transformer_attribution(model, pixels, target)
    assert (actual - expected).abs().max() <= 1e-12 * expected.abs().max()
    _, attention, gradients = eager.attention_layers(model, pixels, target)
    for own, wanted in zip(published.attention_layers(model, pixels, target), (attention, gradients), strict=True):
        for actual, expected in zip(own, wanted, strict=True):
            assert (actual - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_reference_as_published_computes_the_gradients_of_weights() -> None:
    """They are what makes it dearer than the lean one; those of one class, not of all that were asked for before."""
    model = variants.build("plain")
    pixels, target = variants.pixels(model, batch=1), torch.tensor([3])
    logit = eager.target_logits(model(pixels), target).sum()
    expected = torch.autograd.grad(logit, list(model.parameters()))
    for function in (published.transformer_attribution, published.attention_layers):
        function(model, pixels, torch.tensor([1]))
        function(model, pixels, target)
        for parameter, gradient in zip(model.parameters(), expected, strict=True):
            assert torch.allclose(parameter.grad, gradient, rtol=1e-9, atol=1e-12)


# The profile.


def event(op: str, given: list[list[int]], result: list[int]) -> dict[str, Any]:
    shapes = {"input_type_shape": [{"float": shape} for shape in given], "output_type_shape": [{"float": result}]}
    return {"args": {"op_name": op, **shapes}}


@pytest.mark.parametrize(
    ("op", "given", "result", "expected"),
    [
        ("MatMul", [[1, 197, 768]], [1, 197, 2304], 2 * 197 * 768 * 2304),  # the weight is packed
        ("MatMul", [[2, 5, 7], [7, 3]], [2, 5, 3], 2 * 2 * 5 * 7 * 3),
        ("MatMul", [[12, 5, 64], [12, 64, 5]], [12, 5, 5], 2 * 12 * 5 * 5 * 64),
        ("FusedMatMul", [[1, 12, 5, 64], [10, 1, 12, 5, 64]], [10, 1, 12, 5, 5], 2 * 120 * 5 * 5 * 64),
        ("FusedMatMul", [[12, 5, 4], [10, 12, 5, 64]], [10, 12, 4, 64], 2 * 120 * 5 * 4 * 64),  # first one transposed
        ("Gemm", [[3, 768], [768, 1000], [1000]], [3, 1000], 2 * 3 * 768 * 1000),
        ("Gemm", [[3, 768], [1000]], [3, 1000], 2 * 3 * 768 * 1000),
        ("Gemm", [[70, 6], [70, 50]], [70, 50], 2 * 70 * 6 * 50),  # a matrix is added
        ("MatMul", [[0, 0, 5, 7]], [0, 0, 5, 3], 0),
    ],
)
def test_flops_from_shapes(op: str, given: list[list[int]], result: list[int], expected: int) -> None:
    assert profile.flops(event(op, given, result)) == expected


def test_nodes_in_a_branch_count_once(tmp_path: Path) -> None:
    x, y, flag = (
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (("x", 1, [64, 64]), ("y", 1, [64, "any"]), ("flag", 9, []))
    )
    weight = numpy_helper.from_array(np.ones((64, 32), np.float32), "w")
    branches = [
        helper.make_graph(
            [helper.make_node(op, given, [name])], name, [], [helper.make_tensor_value_info(name, 1, [64, "any"])]
        )
        for op, given, name in (("MatMul", ["x", "w"], "taken"), ("Neg", ["x"], "not_taken"))
    ]
    chosen = helper.make_node("If", ["flag"], ["z"], then_branch=branches[0], else_branch=branches[1])
    graph = helper.make_graph([chosen, helper.make_node("Exp", ["z"], ["y"])], "g", [x, flag], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    session = profile.open_session(
        model.SerializeToString(), enable_profiling=True, profile_file_prefix=str(tmp_path / "p")
    )
    for _ in range(4):
        session.run(None, {"x": np.ones((64, 64), np.float32), "flag": np.array(True)})
    found = profile.summary(json.loads(Path(session.end_profiling()).read_text()), 1)
    assert found["flops"] == 2 * 64 * 64 * 32
    assert {"Exp", "other ops", "between nodes"} == set(found["rest"])
    assert found["share"] + sum(found["rest"].values()) == pytest.approx(1)
    assert min(found["rest"].values()) >= 0 and 0 < found["share"] < 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX artifact of a tiny model, under the name that the benchmarks look for.

    One that pools all tokens: what the head does not read, an artifact does not compute.
    """
    model = variants.build("mean_pool").float()
    labels = tuple(map(str, range(variants.CLASSES)))
    size = Preprocessing(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    backbone = Backbone("tiny", model, size, labels, "softmax", "random", None)
    place = tmp_path_factory.mktemp("files")
    for name in ("onnx", "onnx_int8", "onnx_heatmap"):
        files.write_artifact(backbone, place / str(WAYS[name].file), **WAYS[name].export)
    files.write_plain(model, size.size, place / str(WAYS["plain"].file))
    return place


def test_flops_of_an_artifact_are_those_of_the_model(folder: Path) -> None:
    """Of the forward pass, against PyTorch's own count, without the convolution, which is no product of the profile."""
    model = variants.build("mean_pool").float()
    with torch.no_grad(), eager.explicit_attention(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, 3, 32, 32))
    counts = counter.get_flop_counts()["Global"]
    expected = sum(value for op, value in counts.items() if "conv" not in str(op))
    found = profile.measure(folder / "all.onnx", "attention_max", 2, 1, 2)
    assert found["flops"] == expected > 0
    assert found["peak_rate"] > 0


# The runs.


def test_worker_answers_and_survives_what_it_cannot_do(folder: Path) -> None:
    with processes.workers() as get:
        worker = get("onnx", folder, CASE)
        assert get("onnx", folder, CASE) is worker
        assert worker.opened["opened"] > 0
        first = worker.run("relevance", CASE.like(batch=2, targets=3))
        assert first["seconds"] > 0 and first["peak"] > 2**20
        assert "nonsense" in worker.run("nonsense", CASE)["error"]
        assert worker.run("gradient", CASE)["seconds"] > 0
        assert "error" in get("torchscript", folder, CASE).run("attention", CASE)
    assert worker.run("gradient", CASE) == {"error": processes.DIED}


def test_ways_with_files_give_what_they_say(folder: Path) -> None:
    """The same outputs whether bound to memory or not, nearly the same in int8, and a map from the plain artifact."""
    pixels = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    runs = {
        way: subjects.open_way(way, folder, "tiny", 32, "cpu", 1)[0]
        for way in ("plain", "onnx", "onnx_bound", "onnx_int8", "onnx_heatmap")
    }
    for what, output in OUTPUTS.items():
        given = runs["onnx"](pixels, [0, 3], what)
        for _ in range(2):
            bound = [value.numpy() for value in runs["onnx_bound"](pixels, [0, 3], what)]
            for found, expected in zip(bound, (given["logits"], given[output]), strict=True):
                np.testing.assert_array_equal(found, expected)
        rounded = runs["onnx_int8"](pixels, [0, 3], what)[output]
        assert np.abs(rounded - given[output]).max() <= 0.1 * np.abs(given[output]).max()
        assert (what == "attention") == np.array_equal(rounded, given[output])
    assert runs["onnx_heatmap"](pixels, [0, 3], "relevance")["heatmap_transformer_attribution"].shape == (2, 2, 32, 32)
    np.testing.assert_allclose(runs["plain"](pixels, [0], "logits")[0], given["logits"], atol=1e-4)


def test_artifacts_are_opened_and_run_as_the_runtime_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed where the way says so, and many classes in parts."""
    opened, sizes = [], []

    class Noting(OnnxArtifact):
        def __init__(self, *given: Any) -> None:
            opened.append(given[-1])
            super().__init__(*given)

        def run(self, inputs: Any, targets: Any, outputs: Any) -> Any:
            sizes.append(len(targets))
            return super().run(inputs, targets, outputs)

    monkeypatch.setattr("onnxplain.runtime.backends.formats.OnnxArtifact", Noting)
    pixels = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    targets = [0, 1, 2] * 10
    plain, packed = (subjects.open_way(way, folder, "tiny", 32, "cpu", 1)[0] for way in ("onnx", "onnx_packed"))
    assert opened == [False, True]
    output = OUTPUTS["relevance"]
    found = plain(pixels, targets, "relevance")[output]
    assert found.shape[1] == sum(sizes) == len(targets) and max(sizes) <= MOST_TARGETS
    expected = packed(pixels, targets, "relevance")[output]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_what_is_run_in_turn() -> None:
    """The first run does not count, unless it is so long that it is the only one; errors are kept."""
    called = []

    def act(key: str, seconds: float) -> Record:
        called.append(key)
        return {"seconds": seconds + called.count(key), "peak": called.count(key)}

    acts = {
        "short": lambda: act("short", 0),
        "dear": lambda: act("dear", 5),
        "long": lambda: act("long", 100),
        "never": lambda: {"error": "bad allocation"},
    }
    found = processes.interleaved(acts, 4, 12)
    assert found["short"] == {"seconds": 3.5, "runs": 4, "peak": 1}  # of 2, 3, 4, 5
    assert found["dear"] == {"seconds": 7.5, "runs": 2, "peak": 1}  # of 7, 8
    assert found["long"] == {"seconds": 101, "runs": 0, "peak": 1}
    assert processes.reason(found["never"]["error"]) == "not enough memory"
    assert called[:3] == ["short", "dear", "long"] and called[3:].count("short") == 4
    assert called.index("dear", 3) < len(called) - 2  # in turn, not one after the other


def test_what_is_asked() -> None:
    """Of a case on the CPU all ways run together, on a GPU each way goes through the cases by itself."""
    eight, ten = CASE.like(batch=8), CASE.like(targets=10)
    assert cost.asked(CASE, "onnx") == ["attention", "gradient", "relevance"]
    assert cost.asked(ten, "onnx") == cost.asked(ten, "onnx_int8") == ["gradient", "relevance"]
    assert cost.asked(CASE, "onnx_heatmap") and not cost.asked(eight, "onnx_heatmap")
    assert not cost.asked(CASE, "onnx_bound")
    questions = [(case, way) for case in (CASE, eight) for way in ("onnx", "lean")]
    assert list(cost.groups(questions)) == [questions[:2], questions[2:]]
    on_gpu = [(Case(**(asdict(case) | {"device": "cuda"})), way) for case, way in questions]
    assert list(cost.groups(on_gpu)) == [on_gpu[::2], on_gpu[1::2]]
    assert cost.asked(on_gpu[0][0], "onnx_bound") and not cost.asked(on_gpu[0][0], "onnx_int8")


def test_copies_within_runs() -> None:
    def node(op: str, provider: str, ts: int) -> dict[str, Any]:
        name = {"cat": "Node", "name": f"{op}_kernel_time", "ts": ts, "dur": 1}
        return name | {"args": {"op_name": op, "provider": f"{provider}ExecutionProvider"}}

    def span(ts: int) -> dict[str, Any]:
        return {"cat": "Session", "name": "model_run", "ts": ts, "dur": 10}

    first = [node("MemcpyFromHost", "CUDA", 1), node("If", "CUDA", 2), node("MatMul", "CUDA", 3)]
    second = [node("MatMul", "CUDA", 21), node("Shape", "CPU", 22), node("Shape", "CPU", 23)]
    found = [copies.counted(nodes) for nodes in copies.nodes_of_runs([span(0), *first, *second, span(20)])]
    assert found == [
        {"copies": 1, "nodes": 2, "on_cpu": {}},
        {"copies": 0, "nodes": 3, "on_cpu": {"Shape": 2}},
    ]


def test_copies_of_an_artifact(folder: Path) -> None:
    """On the CPU, where there are none: each kind of run has more nodes than the one before."""
    found = copies.measure(folder / "all.onnx", "cpu", 2, 1)
    assert [record["what"] for record in found] == list(OUTPUTS)
    assert all(record["copies"] == 0 and sum(record["on_cpu"].values()) == record["nodes"] for record in found)
    nodes = [record["nodes"] for record in found]
    assert 10 < nodes[0] < nodes[1] < nodes[2]
