"""The outputs of an artifact's graph beside those in ALWAYS, as data: export writes them, the runtime asks for them.

A full artifact has raw outputs and reductions, of which methods make maps. A plain artifact has the maps themselves.
A pass fills one raw output. A reduction is what the methods need of raw outputs, heads already fused inside the graph;
it is there when all its passes are. Every output is computed only where its flag is true.
"""

from dataclasses import dataclass, replace

# What every graph gives and no flag switches, with its axes: logits, and the class that each target stands for, int64
ALWAYS: dict[str, tuple[str, ...]] = {"logits": ("batch", "classes"), "class_index": ("batch", "targets")}

FLAGS = ("required", "optional", "none")
"""Whether an artifact has a flag for each output: an input that has to be fed, one that is true by default, or none."""
INPUTS = ("pixels", "image")
"""What an artifact takes: the preprocessed `pixels`, or an `image` as it is."""

# The axes that follow batch and targets
MATRICES = ("layers", "heads", "tokens", "tokens")
FUSED = ("layers", "tokens", "tokens")
OF_POOL = {MATRICES: ("pool_heads", "queries", "tokens"), FUSED: ("tokens",)}
POOL = "pool_"
PIXELS = ("height", "width")
HEATMAP = "heatmap_"


@dataclass(frozen=True)
class Output:
    """One output of the graph beside those in ALWAYS.

    Attributes:
        output: Its name.
        flag: The optional bool input that switches it, true by default.
        passes: Which passes it needs.
        per_target: Whether an axis of targets follows that of the batch.
        axes: Those that follow; ``Metadata.shape`` gives their lengths.
        pool: Whether only models with an attention pool have it.
    """

    output: str
    flag: str
    passes: tuple[str, ...]
    per_target: bool
    axes: tuple[str, ...]
    pool: bool = False


def _raw(name: str, output: str, axes: tuple[str, ...], per_target: bool = True) -> Output:
    return Output(output, f"with_{name}", (name,), per_target, axes)


def _reduction(name: str, passes: tuple[str, ...], axes: tuple[str, ...] = FUSED, per_target: bool = True) -> Output:
    return Output(name, f"with_{name}", passes, per_target, axes)


PASSES: dict[str, Output] = {
    "attention": _raw("attention", "attention", MATRICES, per_target=False),
    "gradient": _raw("gradient", "attention_gradient", MATRICES),
    "relevance": _raw("relevance", "relevance", MATRICES),
    "layer_gradient": _raw("layer_gradient", "layer_gradient", MATRICES),
    "pixel_gradient": _raw("pixel_gradient", "pixel_gradient", ("channels", *PIXELS)),
    "pixel_relevance": _raw("pixel_relevance", "pixel_relevance", PIXELS),
    "pixel_attnlrp": _raw("pixel_attnlrp", "pixel_attnlrp", PIXELS),
    "pixel_cp_lrp": _raw("pixel_cp_lrp", "pixel_cp_lrp", PIXELS),
    "reciprocam": _raw("reciprocam", "reciprocam", ("rows", "columns")),
    "features": _raw("features", "features", ("tokens", "token_width"), per_target=False),
}
"""By the name of the pass, its raw output. A = attention, G = attention_gradient, R = relevance, D = layer_gradient."""

CLASS_FREE = tuple(name for name, item in PASSES.items() if not item.per_target)
"""The passes that say the same for every class, and so those that a model without classes can have."""

_ATTENTION, _GRADIENT = ("attention",), ("attention", "gradient")

REDUCTIONS: dict[str, Output] = {
    item.output: item
    for item in (
        _reduction("attention_mean", _ATTENTION, per_target=False),  # E_h[A]
        _reduction("attention_max", _ATTENTION, per_target=False),
        _reduction("attention_min", _ATTENTION, per_target=False),
        _reduction("gradient_attention_mean", _GRADIENT),  # E_h[G * A]
        _reduction("gradient_attention_max", _GRADIENT),
        _reduction("gradient_attention_min", _GRADIENT),
        _reduction("gradient_attention_positive", _GRADIENT),  # E_h[(G * A)+]
        _reduction("attention_by_gradient_l1", _GRADIENT),  # sum_h w_h A, w_h = |G_h| / sum_h |G_h|
        _reduction("attention_by_gradient_l2", _GRADIENT),
        _reduction("attention_gradcam", _GRADIENT, ("tokens",)),  # E_h[w_h e A_L], w_h the mean of e G_L over patches
        _reduction("relevance_positive", ("relevance",)),  # E_h[(R)+]
        _reduction("gradient_relevance_positive", ("gradient", "relevance")),  # E_h[(G * R)+]
        _reduction("layer_gradient_positive", ("layer_gradient",), ("layers", "tokens")),  # mean over heads, rows: (D)+
    )
}
"""By name. In the formulas E_h is the mean over heads, and w_h the weight of head h."""

POOLED: dict[str, Output] = {
    POOL + item.output: replace(
        item, output=POOL + item.output, flag=f"with_{POOL}{item.output}", axes=OF_POOL[item.axes], pool=True
    )
    for item in (*PASSES.values(), *REDUCTIONS.values())
    if item.axes in OF_POOL and item.passes != ("layer_gradient",)  # is of the pool's attention already
}
"""By name, the same outputs of an attention pool: one more layer on top, whose one row reads the tokens."""

OUTPUTS: dict[str, Output] = {item.output: item for item in (*PASSES.values(), *REDUCTIONS.values(), *POOLED.values())}
"""Those of full artifacts, by name."""


def heatmap_output(method: str) -> Output:
    """The output of a plain artifact that is the heatmap of this method, over the model's input."""
    name = HEATMAP + method
    return Output(name, f"with_{name}", (), True, PIXELS)


def output_of(name: str) -> Output:
    """The output of that name, of a full artifact or a plain one."""
    return heatmap_output(name.removeprefix(HEATMAP)) if name.startswith(HEATMAP) else OUTPUTS[name]


OF_OUTPUTS: dict[str, tuple[str, ...]] = {
    "lrp": ("relevance", "pixel_relevance", "pixel_attnlrp"),
    **{name: item.passes[-1:] for name, item in OUTPUTS.items() if name not in PASSES},
}
"""The passes that users may mean by the name of an output, or by LRP."""
