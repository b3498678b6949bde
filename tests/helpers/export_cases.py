"""Models to export, what eager PyTorch says their artifacts should give, and how to run these."""

import warnings

import numpy as np
import onnx_ir as ir
import torch
from timm.models.vision_transformer import VisionTransformer

from onnxplain.contract.outputs import ALWAYS
from onnxplain.runtime import PASSES, REDUCTIONS
from tests.reference import attnlrp, chefer, eager, features, legrad, pixels, reductions, variants

LABELS = ["ant", "bee", "cat", "dog", "eel"]
# swiglu_packed is made as DINOv2's giant: with LayerScale and registers
NAMES = ("plain", "distilled", "registers", "clip", "swiglu_packed", "mean_pool_non_square")
TARGETS = [3, 0, 4, 1]
PREPROCESSING = {"size": (32, 32), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
MOMENTS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}

ITEMS = (*PASSES.values(), *REDUCTIONS.values())
OUTPUTS = tuple(item.output for item in ITEMS)
PER_TARGET = {item.output for item in ITEMS if item.per_target}
# Their rules divide by sums that can be near zero: float32 itself is inexact there
ILL_CONDITIONED = {item.output for item in ITEMS if not {"relevance", "pixel_relevance"}.isdisjoint(item.passes)}
FACTOR = 10  # how many times eager float32's own error an ill-conditioned output may be off


def build(name):
    if name != "mean_pool_non_square":
        return variants.build(name, torch.float32)
    model = VisionTransformer((48, 32), 8, num_classes=5, embed_dim=32, depth=2, num_heads=4, global_pool="avg")
    variants.randomise(model)
    return model.eval()


def preprocessing(model):
    return {"size": model.patch_embed.img_size, **MOMENTS}


def reference(model, x):
    """All outputs of an artifact of ``model`` for TARGETS, from eager PyTorch in the dtype of the model."""
    x = x.to(model.head.weight.dtype)
    columns = []
    for target in TARGETS:
        chosen = torch.full((len(x),), target)
        logits, attention, gradient = eager.attention_and_gradient(model, x, chosen)
        columns.append(
            {
                "attention_gradient": gradient,
                "relevance": chefer.relevance(model, x, chosen),
                "layer_gradient": legrad.layer_gradient(model, x, chosen),
                "pixel_gradient": pixels.pixel_gradient(model, x, chosen),
                "pixel_relevance": chefer.full(model, x, chosen),
                "pixel_attnlrp": attnlrp.attnlrp(model, x, chosen),
                "pixel_cp_lrp": attnlrp.cp_lrp(model, x, chosen),
                "reciprocam": pixels.vit_reciprocam(model, x, chosen),
            }
        )
    outputs = {"logits": logits, "attention": attention, "features": features.features(model, x)}
    outputs |= {name: torch.stack([column[name] for column in columns], 1) for name in columns[0]}
    given = {name: tensor.detach().numpy() for name, tensor in outputs.items()}
    raw = (given[name] for name in ("attention", "attention_gradient", "relevance", "layer_gradient"))
    return given | reductions.reductions(chefer.readout(model).detach().numpy(), model.num_prefix_tokens, *raw)


def run(session, x, targets=TARGETS, **flags):
    """All outputs of an artifact by name but ``class_index``, for the same targets in each image."""
    feeds = {"pixels": x, "target": np.tile(np.array(targets, np.int64), (len(x), 1))}
    feeds |= {name: np.array(value) for name, value in flags.items()}
    names = [output.name for output in session.get_outputs() if output.name != "class_index"]
    return dict(zip(names, session.run(names, feeds), strict=True))


def error(given, exact):
    """The greatest error relative to the greatest value, for each leading index."""
    axes = tuple(range(1, exact.ndim))
    return np.abs(given - exact).max(axes) / np.abs(exact).max(axes)


def samples(name, tensor):
    """One leading axis of all images and, where there is one, targets."""
    return tensor.reshape(-1, *tensor.shape[2:]) if name in PER_TARGET else tensor


def limit(name, single, exact):
    """What the error of an output may be: its median where float32 is inexact, else the greatest."""
    if name not in ILL_CONDITIONED:
        return 1e-5
    return max(1e-5, FACTOR * np.median(error(samples(name, single[name]), samples(name, exact[name]))))


def worst(name, errors):
    return np.median(errors) if name in ILL_CONDITIONED else np.max(errors)


def always_needed(graph):
    """The nodes of a file's graph that always run, for the logits and the classes, and None for its inputs."""
    values, needed = [value for value in graph.outputs if value.name in ALWAYS], set()
    while values:
        value = values.pop()
        if value is not None and value.producer() not in needed:
            needed.add(value.producer())
            values += value.producer().inputs if value.producer() else ()
    return needed


def branch_of(file, output):
    """What the ``If`` of an output computes where it is wanted."""
    (node,) = (node for node in file.graph if node.op_type == "If" and node.outputs[0].name == output)
    return node.attributes["then_branch"].as_graph()


def scaled(output, factor):
    """An output times a number."""

    def damage(file, path):
        branch = branch_of(file, output)
        number = ir.node("Constant", [], {"value": ir.tensor(np.float32(factor), name="factor")})
        product = ir.node("Mul", [branch.outputs[0], number.outputs[0]])
        for value, name in ((number.outputs[0], "factor"), (product.outputs[0], "damaged")):
            value.name, value.type = name, ir.TensorType(ir.DataType.FLOAT)
        branch.extend([number, product])
        branch.outputs[0] = product.outputs[0]

    return damage


def load_script(path):
    """A TorchScript file, as PyTorch opens it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated
        return torch.jit.load(path)
