"""A small artifact made by hand that honours the contract: every output of every pass, gated, from a few ONNX nodes.

Its outputs are no explanations of its logits, but they depend on picture, class and layer, and the reductions are those
of its raw outputs.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxplain.contract.outputs import MATRICES, PIXELS
from onnxplain.export.formats.sealing import KEY, sealed_onnx
from onnxplain.runtime import METADATA_KEY, PASSES, Metadata, Preprocessing

SIZE, GRID, LAYERS, HEADS = (16, 24), (2, 3), 2, 2
TOKENS, WIDTH = 1 + GRID[0] * GRID[1], 8
LABELS = ["tabby, tabby cat", "tiger cat", "crane", "crane, whooping crane", "Dog", "crane"]
ALL_PASSES = tuple(PASSES)

# The body: logits from the picture's mean colour, attention from the mean of each patch. Rows: op, inputs, output(s),
# attributes.
BODY = [
    ("ReduceMean", ["pixels", "hw"], "colour", {"keepdims": 0}),
    ("MatMul", ["colour", "weight"], "logits", {}),
    ("AveragePool", ["pixels"], "pooled", {"kernel_shape": [8, 8], "strides": [8, 8]}),
    ("ReduceMean", ["pooled", "axis1"], "patches", {"keepdims": 0}),
    ("Reshape", ["patches", "flat"], "patch_row", {}),
    ("Pad", ["patch_row", "prefix"], "token_row", {}),
    ("Unsqueeze", ["token_row", "to_keys"], "keys", {}),
    ("Mul", ["keys", "scale"], "scores", {}),
    ("Softmax", ["scores"], "A", {"axis": -1}),
    ("TopK", ["logits", "classes"], ["sorted", "order"], {"axis": 1}),
    ("Neg", ["target"], "negated", {}),
    ("Sub", ["negated", "one"], "rank", {}),
    ("Max", ["rank", "zero"], "safe_rank", {}),
    ("GatherElements", ["order", "safe_rank"], "ranked", {"axis": 1}),
    ("Less", ["target", "zero"], "is_rank", {}),
    ("Where", ["is_rank", "ranked", "target"], "class_index", {}),
    ("Add", ["class_index", "one"], "class_from_one", {}),
    ("Cast", ["class_from_one"], "class_value", {"to": TensorProto.FLOAT}),
    ("Unsqueeze", ["class_value", "to_patches"], "class4", {}),
    ("Unsqueeze", ["class_value", "to_pixels"], "class5", {}),
    ("Unsqueeze", ["class_value", "to_matrices"], "class6", {}),
    ("Unsqueeze", ["A", "axis1"], "A_t", {}),
    ("Unsqueeze", ["pixels", "axis1"], "pixels_t", {}),
    ("Mul", ["pixels_t", "class5"], "pixels_class", {}),
    ("Unsqueeze", ["patches", "axis1"], "patches_t", {}),
]
G = [("Sub", ["A_t", "small"], "g", {}), ("Mul", ["g", "class6"], "G", {})]
SCALED = [("Mul", ["A_t", "class6"], "scaled", {}), ("Mul", ["scaled", "nine"], "angle", {})]
R = [*SCALED, ("Sin", ["angle"], "R", {})]
D = [*SCALED, ("Cos", ["angle"], "D", {})]
SIN = [("Sin", ["pixels_class"], "sin", {})]


def _reduced(op, value, axis, output="result"):
    return (op, [value, f"axis{axis}"], output, {"keepdims": 0})


def _positive(factors):
    """E_h[(product)+] of [B, T, L, H, N, N]."""
    last = factors[0]
    rows = []
    for other in factors[1:]:
        rows, last = [("Mul", [last, other], "product", {})], "product"
    return [*rows, ("Relu", [last], "relu", {}), _reduced("ReduceMean", "relu", 3)]


def _by_gradient(norm):
    return [
        *G,
        (f"Reduce{norm}", ["G", "axes45"], "norms", {"keepdims": 1}),
        ("ReduceSum", ["norms", "axis3"], "total", {"keepdims": 1}),
        ("Div", ["norms", "total"], "shares", {}),
        ("Mul", ["shares", "A_t"], "weighted", {}),
        _reduced("ReduceSum", "weighted", 3),
    ]


# What the raw outputs that no test reads the numbers of are, by their axes.
BY_AXES = {
    MATRICES: [*SCALED, ("Identity", ["angle"], "result", {})],
    ("channels", *PIXELS): [("Sin", ["pixels_class"], "result", {})],
    PIXELS: [*SIN, _reduced("ReduceMean", "sin", 2)],
    ("rows", "columns"): [("Mul", ["patches_t", "class4"], "result", {})],
    # Of each token two numbers, along directions of their own
    ("tokens", "token_width"): [
        ("Unsqueeze", ["token_row", "axis2"], "value", {}),
        ("Mul", ["value", "value"], "square", {}),
        ("Concat", ["value", "square"], "both", {"axis": 2}),
        ("MatMul", ["both", "directions"], "result", {}),
    ],
}
FUSIONS = {"mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin"}
GA = [*G, ("Mul", ["G", "A_t"], "GA", {})]
BRANCHES = {
    **{item.output: BY_AXES[item.axes] for item in PASSES.values()},
    "attention": [("Identity", ["A"], "result", {})],
    "attention_gradient": [*G, ("Identity", ["G"], "result", {})],
    "relevance": [*R, ("Identity", ["R"], "result", {})],
    "layer_gradient": [*D, ("Identity", ["D"], "result", {})],
    "pixel_relevance": [("Cos", ["pixels_class"], "cos", {}), _reduced("ReduceMean", "cos", 2)],
    "pixel_attnlrp": [*SIN, ("Mul", ["pixels_t", "sin"], "product", {}), _reduced("ReduceSum", "product", 2)],
    "pixel_cp_lrp": [*SIN, _reduced("ReduceMax", "sin", 2)],
    "reciprocam": [("Mul", ["patches_t", "class4"], "product", {}), ("Sub", ["product", "nine"], "result", {})],
    **{f"attention_{name}": [_reduced(op, "A", 2)] for name, op in FUSIONS.items()},
    **{f"gradient_attention_{name}": [*GA, _reduced(op, "GA", 3)] for name, op in FUSIONS.items()},
    "gradient_attention_positive": [*G, *_positive(["G", "A_t"])],
    "attention_by_gradient_l1": _by_gradient("L1"),
    "attention_by_gradient_l2": _by_gradient("L2"),
    "attention_gradcam": [
        *G,
        ("Gather", ["G", "last"], "g_layer", {"axis": 2}),
        ("Gather", ["g_layer", "zero_scalar"], "g_row", {"axis": 3}),
        ("Gather", ["g_row", "patch_columns"], "g_patches", {"axis": 3}),
        ("ReduceMean", ["g_patches", "axis3"], "weights", {"keepdims": 1}),
        ("Gather", ["A_t", "last"], "a_layer", {"axis": 2}),
        ("Gather", ["a_layer", "zero_scalar"], "a_row", {"axis": 3}),
        ("Mul", ["weights", "a_row"], "weighted", {}),
        _reduced("ReduceMean", "weighted", 2),
    ],
    "relevance_positive": [*R, *_positive(["R"])],
    "gradient_relevance_positive": [*G, *R, *_positive(["G", "R"])],
    "layer_gradient_positive": [
        *D,
        ("Relu", ["D"], "relu", {}),
        ("ReduceMean", ["relu", "axes34"], "result", {"keepdims": 0}),
    ],
}


def _nodes(rows, prefix=""):
    """The rows as nodes; what they make gets the prefix, so that branches do not share names."""
    listed = [
        (op, inputs, outputs if isinstance(outputs, list) else [outputs], rest) for op, inputs, outputs, rest in rows
    ]
    made = {name for _, _, outputs, _ in listed for name in outputs}
    return [
        helper.make_node(
            op,
            [prefix + name if name in made else name for name in inputs],
            [prefix + name for name in outputs],
            **attributes,
        )
        for op, inputs, outputs, attributes in listed
    ]


def _branch(rows, prefix):
    info = helper.make_tensor_value_info(f"{prefix}result", TensorProto.FLOAT, None)
    return helper.make_graph(_nodes(rows, prefix), prefix, [], [info])


def _gated(item, rank):
    """The node that computes an output where its flag is true, and is empty else."""
    empty = numpy_helper.from_array(np.zeros((0,) * rank, np.float32))
    return helper.make_node(
        "If",
        [item.flag],
        [item.output],
        then_branch=_branch(BRANCHES[item.output], f"{item.output}/then/"),
        else_branch=_branch([("Constant", [], "result", {"value": empty})], f"{item.output}/else/"),
    )


def save(model, path):
    """Write the model as an artifact, with the digest of what it is now."""
    rest = {item.key: item.value for item in model.metadata_props if item.key != KEY}
    helper.set_model_props(model, rest)
    onnx.save(model, path)
    seal(path)


def seal(path):
    """Put the digest behind a file that has none."""
    content = path.read_bytes()
    with sealed_onnx(path) as stream:
        stream.write(content)


def build(path, passes=ALL_PASSES, metadata=None, **changes):
    """Write the artifact; `changes` are made to its metadata, `metadata` replaces that document."""
    rng = np.random.default_rng(0)
    axes = {f"axis{axis}": np.array([axis]) for axis in range(1, 4)}
    constants = {
        "weight": rng.normal(size=(3, len(LABELS))).astype(np.float32) * 3,
        "scale": rng.normal(size=(1, LAYERS, HEADS, TOKENS, 1)).astype(np.float32) * 2,
        "prefix": np.array([0, 1, 0, 0]),
        "hw": np.array([2, 3]),
        "flat": np.array([0, -1]),
        "to_keys": np.array([1, 2, 3]),
        "to_patches": np.array([2, 3]),
        "to_pixels": np.array([2, 3, 4]),
        "to_matrices": np.array([2, 3, 4, 5]),
        "axes34": np.array([3, 4]),
        "axes45": np.array([4, 5]),
        "classes": np.array([len(LABELS)]),
        "one": np.array([1]),
        "zero": np.array([0]),
        "zero_scalar": np.array(0),
        "last": np.array(LAYERS - 1),
        "patch_columns": np.arange(1, TOKENS),
        "directions": rng.normal(size=(2, WIDTH)).astype(np.float32),
        "small": np.array(0.1, np.float32),
        "nine": np.array(9, np.float32),
        **axes,
    }
    fields = {
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
        "token_width": WIDTH,
        "hidden_width": 32,
        "passes": passes,
    }
    nodes = _nodes(BODY)
    inputs = [
        helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, *SIZE]),
        helper.make_tensor_value_info("target", TensorProto.INT64, ["batch", "targets"]),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(LABELS)]),
        helper.make_tensor_value_info("class_index", TensorProto.INT64, ["batch", "targets"]),
    ]
    truth = Metadata(**fields)
    for item in truth.outputs:
        shape = ["batch", *(["targets"] if item.per_target else []), *truth.shape(item)]
        nodes.append(_gated(item, len(shape)))
        inputs.append(helper.make_tensor_value_info(item.flag, TensorProto.BOOL, []))
        outputs.append(helper.make_tensor_value_info(item.output, TensorProto.FLOAT, shape))
        constants[item.flag] = np.array(True)
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    document = Metadata(**{**fields, **changes}).to_json() if metadata is None else metadata
    helper.set_model_props(model, {METADATA_KEY: document})
    save(model, path)
    return path
