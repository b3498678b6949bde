"""A small plain artifact made by hand: its heatmaps are no explanations, but depend on image, class and method."""

import json

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from onnxplain.runtime import METADATA_KEY, Metadata, Preprocessing
from tests.helpers.tiny_artifact import LABELS, save

SIZE = (16, 24)
FLOAT, INT64, BOOL, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.UINT8

BODY = {
    "pixels": [],
    "image": [
        ("Cast", ["image"], "values", {"to": FLOAT}),
        ("Transpose", ["values"], "pixels", {"perm": [0, 3, 1, 2]}),
    ],
}
LOGITS = [
    ("ReduceMean", ["pixels", "hw"], "colour", {"keepdims": 0}),
    ("MatMul", ["colour", "weight"], "logits", {}),
    ("Max", ["target", "zero"], "class_index", {}),  # ranks are not resolved
    ("Cast", ["class_index"], "class_value", {"to": FLOAT}),
    ("Unsqueeze", ["class_value", "to_pixels"], "class4", {}),
    ("ReduceMean", ["pixels", "channels"], "grey", {"keepdims": 1}),
    ("Mul", ["grey", "class4"], "scaled", {}),
]
OPS = ("Sin", "Cos", "Neg")  # a heatmap each


def plain_document(heatmaps=("rollout",), flags="none", input="pixels", **changes):
    """The metadata of such an artifact, as JSON."""
    fields = {
        "model": "tiny",
        "checkpoint": {"source": "random", "sha256": None},
        "preprocessing": Preprocessing(SIZE, (0.5,) * 3, (0.25,) * 3, 0.9, "center", "bicubic"),
        "labels": LABELS,
        "activation": "softmax",
        "patch_grid": (2, 3),
        "prefix_tokens": 1,
        "readout": [0],
        "layers": 2,
        "heads": 2,
        "token_width": 8,
        "hidden_width": 32,
        "passes": ("attention", "gradient"),
        "heatmaps": {method: {} for method in heatmaps},
        "flags": flags,
        "input": input,
    }
    document = Metadata(**{**fields, **changes}).to_json()
    return json.dumps(json.loads(document))  # in ASCII: onnx takes no halves of letters


def metadata_of(path):
    """The metadata of an artifact, without opening it as one."""
    session = onnxruntime.InferenceSession(path)
    return Metadata.from_json(session.get_modelmeta().custom_metadata_map[METADATA_KEY])


def build_plain(path, heatmaps=("rollout",), flags="none", input="pixels", **changes):
    """Write the artifact; `changes` are made to its metadata."""
    rng = np.random.default_rng(0)
    constants = {
        "weight": rng.normal(size=(3, len(LABELS))).astype(np.float32),
        "hw": np.array([2, 3]),
        "channels": np.array([1]),
        "to_pixels": np.array([2, 3]),
        "zero": np.array(0),
        "nothing": np.array([0]),
        "targets_axis": np.array([1]),
    }
    size = ["height", "width"] if input == "image" else [*SIZE]
    shape = ["batch", *size, 3] if input == "image" else ["batch", 3, *size]
    inputs = [
        helper.make_tensor_value_info(input, UINT8 if input == "image" else FLOAT, shape),
        helper.make_tensor_value_info("target", INT64, ["batch", "targets"]),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", FLOAT, ["batch", len(LABELS)]),
        helper.make_tensor_value_info("class_index", INT64, ["batch", "targets"]),
    ]
    nodes = [helper.make_node(op, given, [made], **rest) for op, given, made, rest in [*BODY[input], *LOGITS]]
    for method, op in zip(heatmaps, OPS, strict=False):
        name = f"heatmap_{method}"
        outputs.append(helper.make_tensor_value_info(name, FLOAT, ["batch", "targets", *size]))
        if flags == "none":
            nodes.append(helper.make_node(op, ["scaled"], [name]))
            continue
        flag, condition = f"with_{name}", f"with_{name}"
        inputs.append(helper.make_tensor_value_info(flag, BOOL, ["batch"] if flags == "required" else []))
        if flags == "optional":
            constants[flag] = np.array(True)
        else:
            condition = f"any_{flag}"
            nodes += [
                helper.make_node("Cast", [flag], [f"{flag}_number"], to=INT64),
                helper.make_node("ReduceMax", [f"{flag}_number"], [f"{flag}_most"], keepdims=0),
                helper.make_node("Cast", [f"{flag}_most"], [condition], to=BOOL),
            ]
        nodes.append(_gated(op, name, condition))
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "plain", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {METADATA_KEY: plain_document(heatmaps, flags, input, **changes)})
    onnx.checker.check_model(model, full_check=True)
    save(model, path)
    return path


def _gated(op, name, condition):
    info = helper.make_tensor_value_info("result", FLOAT, [None] * 4)
    branches = {
        "then_branch": helper.make_node(op, ["scaled"], ["result"]),
        "else_branch": helper.make_node("Slice", ["scaled", "nothing", "nothing", "targets_axis"], ["result"]),
    }
    return helper.make_node(
        "If",
        [condition],
        [name],
        **{key: helper.make_graph([node], name, [], [info]) for key, node in branches.items()},
    )
