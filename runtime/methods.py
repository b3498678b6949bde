"""The explanation methods in one table: function, outputs, parameters, words and source; and how to find one."""

from collections.abc import Iterable

from . import flow, maps, sampling
from .errors import OnnxplainError
from .method import Method
from .outputs import PASSES
from .parameters import (
    BASELINE,
    CELLS,
    DISCARD_RATIO,
    HEAD_FUSION,
    LAST_LAYERS,
    LAYER,
    MASKS,
    NOISE,
    NORM,
    PROBABILITY,
    SAMPLES,
    SEED,
    START_LAYER,
    STEPS,
)

_CVPR = "Chefer, Gur, Wolf: Transformer Interpretability Beyond Attention Visualization, CVPR 2021"
_ACL = "Abnar, Zuidema: Quantifying Attention Flow in Transformers, ACL 2020"
_ICML = "Achtibat et al.: AttnLRP, Attention-Aware Layer-Wise Relevance Propagation for Transformers, ICML 2024"

_ROWS = (
    Method(
        "transformer_attribution",
        maps.accumulated,
        ("gradient_relevance_positive",),
        (START_LAYER,),
        "gradient times LRP relevance of every attention entry, accumulated over the layers; class-specific",
        _CVPR,
    ),
    Method(
        "legrad",
        maps.legrad,
        ("layer_gradient_positive",),
        (LAST_LAYERS,),
        "gradient of the score that each layer alone would give, in its attention; class-specific",
        "Bousselham et al.: LeGrad, An Explainability Method for Vision Transformers via Feature Formation, 2024",
    ),
    Method(
        "grad_rollout",
        maps.grad_rollout,
        ("gradient_attention_{head_fusion}",),
        (HEAD_FUSION, DISCARD_RATIO, START_LAYER),
        "attention rollout with each attention weighted by its gradient; class-specific",
        "Gildenblat: vit-explain, 2020, after Abnar and Zuidema",
    ),
    Method(
        "generic_attention",
        maps.accumulated,
        ("gradient_attention_positive",),
        (START_LAYER,),
        "gradient times attention, accumulated over the layers; class-specific",
        "Chefer, Gur, Wolf: Generic Attention-model Explainability, ICCV 2021",
    ),
    Method(
        "attnlrp",
        maps.pixels_as_they_are,
        ("pixel_attnlrp",),
        (),
        "LRP relevance of the pixels, through attention as well as values; class-specific",
        _ICML,
        pixel_level=True,
    ),
    Method(
        "cp_lrp",
        maps.pixels_as_they_are,
        ("pixel_cp_lrp",),
        (),
        "LRP relevance of the pixels with attention held constant; class-specific",
        f"baseline (CP-LRP) of {_ICML}",
        pixel_level=True,
    ),
    Method(
        "full",
        maps.pixels_as_they_are,
        ("pixel_relevance",),
        (),
        "LRP relevance carried on to the pixels by the rules of transformer_attribution; class-specific",
        f"full LRP of {_CVPR}",
        pixel_level=True,
    ),
    Method(
        "vit_reciprocam",
        maps.tokens_as_they_are,
        ("reciprocam",),
        (),
        "the class's score when the last block sees only what is around a patch; class-specific",
        "Byun, Lee: ViT-ReciproCAM, Gradient and Attention-Free Visual Explanations for Vision Transformer, 2023",
        relative=True,
        max_tokens=200,
    ),
    Method(
        "gmar",
        maps.gmar,
        ("attention_by_gradient_{norm}",),
        (NORM, START_LAYER),
        "attention rollout with each head weighted by how large its gradient is; class-specific",
        "GMAR: Gradient-Driven Multi-Head Attention Rollout for Vision Transformer Interpretability, 2025",
    ),
    Method(
        "attention_gradcam",
        maps.attention_gradcam,
        ("attention_gradcam",),
        (),
        "GradCAM on the last layer's attention, heads in place of channels; class-specific",
        f"baseline of {_CVPR}",
    ),
    Method(
        "rollout",
        maps.rollout,
        ("attention_{head_fusion}",),
        (HEAD_FUSION, DISCARD_RATIO, START_LAYER),
        "attention multiplied through the layers, with residuals; the same for every class",
        _ACL,
    ),
    Method(
        "attention_flow",
        flow.attention_flow,
        ("attention_mean",),
        (),
        "maximum flow from the readout to each patch, attention as capacity; the same for every class",
        _ACL,
        extra=("scipy", "flow"),
        max_tokens=200,
    ),
    Method(
        "raw_attention",
        maps.single_layer,
        ("attention_mean",),
        (LAYER,),
        "one layer's attention, the last unless another is named; the same for every class",
        f"baseline of {_CVPR}",
    ),
    Method(
        "relevance_rollout",
        maps.accumulated,
        ("relevance_positive",),
        (START_LAYER,),
        "LRP relevance of attention accumulated over the layers, without gradient; class-specific",
        f"ablation in {_CVPR}",
    ),
    Method(
        "last_layer",
        maps.single_layer,
        ("relevance_positive",),
        (LAYER,),
        "LRP relevance of one layer's attention, the last unless another is named; class-specific",
        f"baseline (partial LRP) of {_CVPR}",
    ),
    Method(
        "last_layer_gradient",
        maps.single_layer,
        ("gradient_relevance_positive",),
        (LAYER,),
        "gradient times LRP relevance of one layer's attention, the last unless another is named; class-specific",
        f"ablation in {_CVPR}",
    ),
    Method(
        "integrated_gradients",
        sampling.integrated_gradients,
        ("pixel_gradient",),
        (STEPS, BASELINE),
        "gradient of the pixels, averaged on the way from a baseline, times the way; class-specific",
        "Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, ICML 2017",
        pixel_level=True,
        runs="steps",
    ),
    Method(
        "smoothgrad",
        sampling.smoothgrad,
        ("pixel_gradient",),
        (SAMPLES, NOISE, SEED),
        "gradient of the pixels, averaged over noisy copies of the picture; class-specific",
        "Smilkov et al.: SmoothGrad, Removing Noise by Adding Noise, 2017",
        pixel_level=True,
        runs="samples",
    ),
    Method(
        "input_x_gradient",
        maps.input_x_gradient,
        ("pixel_gradient",),
        (),
        "pixels times their gradient; class-specific",
        "Shrikumar et al.: Not Just a Black Box, Learning Important Features Through Propagating Activations, 2016",
        pixel_level=True,
    ),
    Method(
        "gradient",
        maps.gradient,
        ("pixel_gradient",),
        (),
        "gradient of the pixels; class-specific",
        "Simonyan, Vedaldi, Zisserman: Deep Inside Convolutional Networks, 2014",
        pixel_level=True,
    ),
    Method(
        "rise",
        sampling.rise,
        (),
        (MASKS, CELLS, PROBABILITY, SEED),
        "how probable the class is where random masks show the pixel; class-specific",
        "Petsiuk, Das, Saenko: RISE, Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018",
        pixel_level=True,
        runs="masks",
        max_tokens=150,
    ),
)

# Where no method is named, the first one whose passes the artifact has is used.
METHODS: dict[str, Method] = {method.name: method for method in _ROWS}


def available_methods(passes: Iterable[str]) -> list[Method]:
    """The methods an artifact with these passes can run, in the order of the table."""
    present = set(passes)
    return [method for method in METHODS.values() if present.issuperset(method.passes)]


def comparable_methods(passes: Iterable[str], tokens: int) -> tuple[list[Method], dict[str, str]]:
    """The available methods to compare on one picture, and why the others among them are left out, by name."""
    chosen, left_out = [], {}
    for method in available_methods(passes):
        slow = method.max_tokens is not None and tokens > method.max_tokens
        reason = method.missing or (f"slow with {tokens} tokens; name it to have it" if slow else "")
        if reason:
            left_out[method.name] = reason
        else:
            chosen.append(method)
    return chosen, left_out


def find_method(name: str | None, passes: tuple[str, ...]) -> Method:
    """The method of that name, or the best one for these passes if the name is None.

    Raises OnnxplainError if there is no such method, or if it needs a pass or a dependency that is not there.
    """
    if name is None:
        return available_methods(passes)[0]
    if name not in METHODS:
        raise OnnxplainError(f"there is no method {name!r}; there are: {', '.join(METHODS)}")
    method = METHODS[name]
    missing = [item for item in method.passes if item not in passes]
    if missing:
        wanted = ",".join(item for item in PASSES if item in (*passes, *method.passes))
        raise OnnxplainError(
            f"method {name} needs the pass {' and '.join(missing)}, this artifact has: {', '.join(passes)}; "
            f"export it again with --passes {wanted}, or use one of: "
            f"{', '.join(item.name for item in available_methods(passes))}"
        )
    if method.missing:
        raise OnnxplainError(f"method {name} cannot run here: {method.missing}")
    return method
