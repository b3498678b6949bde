"""Opening an artifact: what is one, what is none, on which device. `build` makes the small one other tests use."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxplain.runtime import METADATA_KEY, Explainer, Metadata, OnnxplainError, Preprocessing
from onnxplain.runtime.metadata import PASSES

SIZE, GRID, LAYERS, HEADS = (16, 24), (2, 3), 2, 2
TOKENS = 1 + GRID[0] * GRID[1]
LABELS = ["tabby, tabby cat", "tiger cat", "crane", "crane, whooping crane", "Dog", "crane"]
ALL_PASSES = ("attention", "gradient", "relevance")

# The body: logits from the picture's mean colour, attention from the mean of each patch
BODY = [
    ("ReduceMean", ["pixels", "hw"], "colour", {"keepdims": 0}),
    ("MatMul", ["colour", "weight"], "logits", {}),
    ("AveragePool", ["pixels"], "pooled", {"kernel_shape": [8, 8], "strides": [8, 8]}),
    ("ReduceMean", ["pooled", "channel"], "patches", {"keepdims": 0}),
    ("Reshape", ["patches", "flat"], "patch_row", {}),
    ("Pad", ["patch_row", "prefix"], "token_row", {}),
    ("Unsqueeze", ["token_row", "to_keys"], "keys", {}),
    ("Mul", ["keys", "scale"], "scores", {}),
    ("Softmax", ["scores"], "attention", {"axis": -1}),
    ("TopK", ["logits", "classes"], ["sorted", "order"], {"axis": 1}),
    ("Neg", ["target"], "negated", {}),
    ("Sub", ["negated", "one"], "rank", {}),
    ("Max", ["rank", "zero"], "safe_rank", {}),
    ("GatherElements", ["order", "safe_rank"], "ranked", {"axis": 1}),
    ("Less", ["target", "zero"], "is_rank", {}),
    ("Where", ["is_rank", "ranked", "target"], "class", {}),
    ("Add", ["class", "one"], "class_from_one", {}),
    ("Cast", ["class_from_one"], "class_value", {"to": TensorProto.FLOAT}),
    ("Unsqueeze", ["class_value", "to_matrices"], "class_factor", {}),
    ("Unsqueeze", ["attention", "one"], "attention_per_target", {}),
]
BRANCHES = {
    "gradient": [("Mul", ["attention_per_target", "class_factor"], "{}", {})],
    "relevance": [("Pow", ["attention_per_target", "class_factor"], "{}", {})],
}


def _nodes(rows, name=""):
    return [
        helper.make_node(
            op,
            inputs,
            [item.format(name) for item in (outputs if isinstance(outputs, list) else [outputs])],
            **attributes,
        )
        for op, inputs, outputs, attributes in rows
    ]


def _branch(rows, output):
    info = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    return helper.make_graph(_nodes(rows, output), output, [], [info])


def build(path, passes=ALL_PASSES, metadata=None, **changes):
    rng = np.random.default_rng(0)
    constants = {
        "weight": rng.normal(size=(3, len(LABELS))).astype(np.float32) * 3,
        "scale": rng.normal(size=(1, LAYERS, HEADS, TOKENS, 1)).astype(np.float32) * 2,
        "prefix": np.array([0, 1, 0, 0]),
        "hw": np.array([2, 3]),
        "channel": np.array([1]),
        "flat": np.array([0, -1]),
        "to_keys": np.array([1, 2, 3]),
        "to_matrices": np.array([2, 3, 4, 5]),
        "classes": np.array([len(LABELS)]),
        "one": np.array([1]),
        "zero": np.array([0]),
    }
    nodes = _nodes(BODY)
    inputs = [
        helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, *SIZE]),
        helper.make_tensor_value_info("target", TensorProto.INT64, ["batch", "targets"]),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(LABELS)]),
        helper.make_tensor_value_info("attention", TensorProto.FLOAT, ["batch", LAYERS, HEADS, TOKENS, TOKENS]),
    ]
    for name in passes[1:]:
        output, flag = PASSES[name].output, f"with_{name}"
        empty = numpy_helper.from_array(np.zeros((0,) * 6, np.float32))
        nothing = [("Constant", [], "{}", {"value": empty})]
        nodes.append(
            helper.make_node(
                "If",
                [flag],
                [output],
                then_branch=_branch(BRANCHES[name], f"{output}_then"),
                else_branch=_branch(nothing, f"{output}_else"),
            )
        )
        inputs.append(helper.make_tensor_value_info(flag, TensorProto.BOOL, []))
        outputs.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * 6))
        constants[flag] = np.array(True)
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    described = Metadata(
        **{
            "model": "tiny",
            "checkpoint": {"source": "random", "sha256": None},
            "preprocessing": Preprocessing(SIZE, (0.5,) * 3, (0.25,) * 3, 0.9, "center", "bicubic"),
            "labels": LABELS,
            "activation": "softmax",
            "patch_grid": GRID,
            "prefix_tokens": 1,
            "readout": [0],
            "layers": LAYERS,
            "heads": HEADS,
            "passes": passes,
            **changes,
        }
    ).to_json()
    helper.set_model_props(model, {METADATA_KEY: metadata if metadata is not None else described})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return build(tmp_path_factory.mktemp("artifact") / "tiny.onnx")


def test_a_disabled_pass_is_empty_and_flags_are_optional(artifact):
    session = onnxruntime.InferenceSession(str(artifact))
    feeds = {"pixels": np.zeros((1, 3, *SIZE), np.float32), "target": np.array([[0]])}
    off = session.run(["relevance", "attention_gradient"], {**feeds, "with_relevance": np.array(False)})
    assert off[0].size == 0 and off[1].shape == (1, 1, LAYERS, HEADS, TOKENS, TOKENS)


def test_loading_is_silent(artifact):
    code = f"from onnxplain.runtime import Explainer; Explainer({str(artifact)!r}, device='cpu')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "" and done.stderr == ""


def _write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, "there is no artifact"),
        (lambda path: path.parent, "there is no artifact"),
        (lambda path: _write(path, b""), "not an ONNX file|not an onnxplain artifact"),
        (lambda path: _write(path, b"hello, this is text"), "not an ONNX file"),
        (lambda path: _write(path, build(path).read_bytes()[:500]), "not an ONNX file"),
        (lambda path: build(path, metadata="{}"), "not an onnxplain artifact: metadata schema is None"),
        (lambda path: build(path, labels=["only one"]), r"not an onnxplain artifact: logits ends in \[6\], .* \[1\]"),
        (lambda path: build(path, patch_grid=[3, 3]), "not an onnxplain artifact: attention ends in"),
        (lambda path: build(path, preprocessing=Preprocessing((24, 24), (0,) * 3, (1,) * 3)), "pixels ends in"),
    ],
)
def test_files_that_are_no_artifact(make, message, tmp_path):
    path = make(tmp_path / "x.onnx")
    with pytest.raises(OnnxplainError, match=message) as error:
        Explainer(path, device="cpu")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_another_onnx_file_and_one_that_lacks_a_pass(tmp_path):
    path = build(tmp_path / "x.onnx", passes=("attention",))
    model = onnx.load(path)
    described = model.metadata_props[0].value.replace('["attention"]', '["attention", "gradient"]')
    helper.set_model_props(model, {METADATA_KEY: described})
    onnx.save(model, path)
    with pytest.raises(OnnxplainError, match="the graph has no attention_gradient"):
        Explainer(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(OnnxplainError, match="not an onnxplain artifact: an ONNX file without 'onnxplain' metadata"):
        Explainer(path)


def test_devices(artifact, monkeypatch):
    assert Explainer(artifact, device="cpu").device == "cpu"
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert Explainer(artifact).device == "cpu"
    with pytest.raises(OnnxplainError, match=r"device cuda needs .*onnxplain\[gpu\]"):
        Explainer(artifact, device="cuda")
    with pytest.raises(OnnxplainError, match="there is no device 'tpu'; there are: auto, cpu, cuda"):
        Explainer(artifact, device="tpu")
    with pytest.raises(OnnxplainError, match="threads must be at least 1"):
        Explainer(artifact, threads=0)


def test_import_needs_no_torch_timm_or_onnx():
    heavy = ["torch", "torchvision", "timm", "onnx", "onnxscript", "onnxplain.lrp_graph", "onnxplain.export", "cmap"]
    code = f"import sys, onnxplain.runtime; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_without_onnxruntime_says_what_to_install():
    code = "import sys; sys.modules['onnxruntime'] = None; import onnxplain.runtime"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "pip install 'onnxplain[cpu]'" in done.stderr.splitlines()[-1]
