"""Artifacts against the eager reference, what the file holds, and the gate that lets no wrong one through."""

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
import timm
import torch
from onnx import numpy_helper
from reference import chefer, eager, maps, variants
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import onnxplain
from onnxplain.export import GateError, export_model
from onnxplain.lrp_graph.gradient import GRADIENT
from onnxplain.runtime import Explainer, OnnxplainError

aten = torch.ops.aten

LABELS = ["ant", "bee", "cat", "dog", "eel"]
NAMES = ("plain", "distilled", "registers", "clip", "layer_scale", "swiglu", "mean_pool_non_square")
IMAGES, TARGETS = 3, [3, 0, 4, 1]
REVERSE = {"gradient": "attention_gradient", "relevance": "relevance"}
MOMENTS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
FACTOR = 5  # how many times eager float32's own error an ill-conditioned output may be off


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
        "readout": chefer.readout(case.model).numpy(),
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
        for row, columns in enumerate(results):
            for column, result in enumerate(columns):
                gradient, relevance = (case.exact[output][row, column] for output in REVERSE.values())
                expected = reference(case.exact["attention"][row], gradient, relevance)
                assert result.tokens.shape == expected.shape
                a, b = result.tokens - result.tokens.mean(), expected - expected.mean()  # nearly constant maps differ
                print(name, method, 1-(a * b).sum()/np.linalg.norm(a) / np.linalg.norm(b))
                assert (a * b).sum() >= 0.9999 * np.linalg.norm(a) * np.linalg.norm(b)
                np.testing.assert_allclose(np.linalg.norm(result.tokens), np.linalg.norm(expected), rtol=1e-3)
