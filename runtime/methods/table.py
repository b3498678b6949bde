"""The explanation methods in one table: function, outputs, parameters, words and source."""

from . import attention_flow, attention_maps, sampling
from .method import Method
from .parameters import PARAMETERS, Parameter

_CVPR = "Chefer, Gur, Wolf: Transformer Interpretability Beyond Attention Visualization, CVPR 2021"
_PROGRAM = (
    f"generate_LRP(method='{{}}') of ViT_LRP, published with {_CVPR}; the paper's evaluation ran it with other rules, "
    "without normalisation at residuals"
)
_ACL = "Abnar, Zuidema: Quantifying Attention Flow in Transformers, ACL 2020"
_ICML = "Achtibat et al.: AttnLRP, Attention-Aware Layer-Wise Relevance Propagation for Transformers, ICML 2024"


def _parameters(*names: str) -> tuple[Parameter, ...]:
    return tuple(PARAMETERS[name] for name in names)


_ROWS = (
    Method(
        "transformer_attribution",
        attention_maps.accumulated,
        ("gradient_relevance_positive",),
        _parameters("start_layer"),
        "gradient times LRP relevance of every attention entry, accumulated over the layers; class-specific",
        _CVPR,
    ),
    Method(
        "legrad",
        attention_maps.legrad,
        ("layer_gradient_positive",),
        _parameters("layers"),
        "gradient of the score that each layer alone would give, in its attention; class-specific",
        "Bousselham et al.: LeGrad, An Explainability Method for Vision Transformers via Feature Formation, 2024",
    ),
    Method(
        "grad_rollout",
        attention_maps.grad_rollout,
        ("gradient_attention_{head_fusion}",),
        _parameters("head_fusion", "discard_ratio", "start_layer"),
        "attention rollout with each attention weighted by its gradient; class-specific",
        "Gildenblat: vit-explain, 2020, after Abnar and Zuidema",
    ),
    Method(
        "generic_attention",
        attention_maps.accumulated,
        ("gradient_attention_positive",),
        _parameters("start_layer"),
        "gradient times attention, accumulated over the layers; class-specific",
        "Chefer, Gur, Wolf: Generic Attention-model Explainability, ICCV 2021",
    ),
    Method(
        "attnlrp",
        attention_maps.pixel_output,
        ("pixel_attnlrp",),
        (),
        "LRP relevance of the pixels, through attention as well as values; class-specific",
        _ICML,
        pixel_level=True,
        signed=True,
    ),
    Method(
        "cp_lrp",
        attention_maps.pixel_output,
        ("pixel_cp_lrp",),
        (),
        "LRP relevance of the pixels with attention held constant; class-specific",
        f"baseline (CP-LRP) of {_ICML}",
        pixel_level=True,
        signed=True,
    ),
    Method(
        "full",
        attention_maps.pixel_output,
        ("pixel_relevance",),
        (),
        "LRP relevance carried on to the pixels by the rules of transformer_attribution; class-specific",
        _PROGRAM.format("full"),
        pixel_level=True,
        signed=True,
    ),
    Method(
        "vit_reciprocam",
        attention_maps.token_output,
        ("reciprocam",),
        (),
        "the class's score when the last block sees only what is around a patch; class-specific",
        "Byun, Lee: ViT-ReciproCAM, Gradient and Attention-Free Visual Explanations for Vision Transformer, 2023",
        relative=True,
        max_tokens=200,
    ),
    Method(
        "gmar",
        attention_maps.gmar,
        ("attention_by_gradient_{norm}",),
        _parameters("norm", "start_layer"),
        "attention rollout with each head weighted by how large its gradient is; class-specific",
        "GMAR: Gradient-Driven Multi-Head Attention Rollout for Vision Transformer Interpretability, 2025",
    ),
    Method(
        "attention_gradcam",
        attention_maps.attention_gradcam,
        ("attention_gradcam",),
        (),
        "GradCAM on the last layer's attention, heads in place of channels; class-specific",
        f"baseline of {_CVPR}",
    ),
    Method(
        "rollout",
        attention_maps.rollout,
        ("attention_{head_fusion}",),
        _parameters("head_fusion", "discard_ratio", "start_layer"),
        "attention multiplied through the layers, with residuals; the same for every class",
        _ACL,
    ),
    Method(
        "attention_flow",
        attention_flow.attention_flow,
        ("attention_mean",),
        (),
        "maximum flow from the readout to each patch, attention as capacity; the same for every class",
        _ACL,
        extra=("scipy", "flow"),
        max_tokens=200,
    ),
    Method(
        "raw_attention",
        attention_maps.single_layer,
        ("attention_mean",),
        _parameters("layer"),
        "one layer's attention, the last unless another is named; the same for every class",
        f"baseline of {_CVPR}",
    ),
    Method(
        "relevance_rollout",
        attention_maps.accumulated,
        ("relevance_positive",),
        _parameters("start_layer"),
        "LRP relevance of attention accumulated over the layers, without gradient; class-specific",
        f"ablation in {_CVPR}",
    ),
    Method(
        "last_layer",
        attention_maps.single_layer,
        ("relevance_positive",),
        _parameters("layer"),
        "LRP relevance of one layer's attention, the last unless another is named; class-specific",
        _PROGRAM.format("last_layer"),
    ),
    Method(
        "last_layer_gradient",
        attention_maps.single_layer,
        ("gradient_relevance_positive",),
        _parameters("layer"),
        "gradient times LRP relevance of one layer's attention, the last unless another is named; class-specific",
        f"ablation in {_CVPR}",
    ),
    Method(
        "integrated_gradients",
        sampling.integrated_gradients,
        ("pixel_gradient",),
        _parameters("steps", "baseline"),
        "gradient of the pixels, averaged on the way from a baseline, times the way; class-specific",
        "Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, ICML 2017",
        pixel_level=True,
        signed=True,
        runs="steps",
    ),
    Method(
        "smoothgrad",
        sampling.smoothgrad,
        ("pixel_gradient",),
        _parameters("samples", "noise", "seed"),
        "gradient of the pixels, averaged over noisy copies of the image; class-specific",
        "Smilkov et al.: SmoothGrad, Removing Noise by Adding Noise, 2017",
        pixel_level=True,
        signed=True,
        runs="samples",
    ),
    Method(
        "input_x_gradient",
        attention_maps.input_x_gradient,
        ("pixel_gradient",),
        (),
        "pixels times their gradient; class-specific",
        "Shrikumar et al.: Not Just a Black Box, Learning Important Features Through Propagating Activations, 2016",
        pixel_level=True,
        signed=True,
    ),
    Method(
        "gradient",
        attention_maps.gradient,
        ("pixel_gradient",),
        (),
        "gradient of the pixels; class-specific",
        "Simonyan, Vedaldi, Zisserman: Deep Inside Convolutional Networks, 2014",
        pixel_level=True,
        signed=True,
    ),
    Method(
        "rise",
        sampling.rise,
        (),
        _parameters("masks", "cells", "probability", "seed"),
        "how probable the class is where random masks show the pixel; class-specific",
        "Petsiuk, Das, Saenko: RISE, Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018",
        pixel_level=True,
        runs="masks",
        max_tokens=150,
    ),
)

# Where no method is named, the first one whose passes the artifact has is used.
METHODS: dict[str, Method] = {method.name: method for method in _ROWS}
