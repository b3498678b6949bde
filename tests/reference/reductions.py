"""What the methods need of the tensors, reduced over heads: float64 NumPy, one image, target and layer at a time.

attention [B, L, H, N, N]; gradient, relevance and layer gradient [B, T, L, H, N, N] (arrays or detached CPU tensors).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .maps import FUSIONS, Array


def _each(function: Callable[..., Array], *tensors: Array) -> Array:
    """function([H, N, N], …) for every index of the axes before; an attention tensor lacks the target axis."""
    with_target = max(tensor.ndim for tensor in tensors) == 6
    if not with_target:
        return np.array([[function(layer) for layer in image] for image in tensors[0]])
    images, targets, layers = next(tensor for tensor in tensors if tensor.ndim == 6).shape[:3]

    def part(tensor: Array, image: int, target: int, layer: int) -> Array:
        return tensor[image, target, layer] if tensor.ndim == 6 else tensor[image, layer]

    return np.array(
        [
            [[function(*(part(t, b, t_, n) for t in tensors)) for n in range(layers)] for t_ in range(targets)]
            for b in range(images)
        ]
    )


def _positive(x: Array) -> Array:
    return np.where(x > 0, x, 0.0)


def weighted_by_gradient(a: Array, g: Array, norm: str) -> Array:
    """sum_h w_h A[h] with w_h = norm(G[h]) / sum of norms; equal weights where the gradient is all zero."""
    norms = [float(np.abs(head).sum() if norm == "l1" else np.sqrt((head**2).sum())) for head in g]
    total = sum(norms)
    weights = [size / total if total else 1 / len(norms) for size in norms]
    result = np.zeros_like(a[0])
    for weight, head in zip(weights, a, strict=True):
        result = result + weight * head
    return result


def attention_gradcam(a: Array, g: Array, readout: Array, prefix: int) -> Array:
    """mean_h w_h a_h, a_h = e A[h] over all tokens, w_h = mean over the patches of e G[h]; of one layer, [N]."""
    weights = [float((readout @ head)[prefix:].mean()) for head in g]
    return np.asarray(np.mean([weight * (readout @ head) for weight, head in zip(weights, a, strict=True)], axis=0))


def reductions(
    readout: npt.ArrayLike,
    prefix: int,
    attention: npt.ArrayLike | None = None,
    gradient: npt.ArrayLike | None = None,
    relevance: npt.ArrayLike | None = None,
    layer_gradient: npt.ArrayLike | None = None,
) -> dict[str, Array]:
    """Every reduction that the given tensors allow, by name."""
    given = (attention, gradient, relevance, layer_gradient)
    a, g, r, d = (None if tensor is None else np.asarray(tensor, dtype=np.float64) for tensor in given)
    e = np.asarray(readout, dtype=np.float64)
    found: dict[str, Array] = {}
    if a is not None:
        for name, fuse in FUSIONS.items():
            found[f"attention_{name}"] = _each(lambda a, fuse=fuse: fuse(a, axis=0), a)
    if a is not None and g is not None:
        for name, fuse in FUSIONS.items():
            found[f"gradient_attention_{name}"] = _each(lambda a, g, fuse=fuse: fuse(g * a, axis=0), a, g)
        found["gradient_attention_positive"] = _each(lambda a, g: _positive(g * a).mean(axis=0), a, g)
        for norm in ("l1", "l2"):
            found[f"attention_by_gradient_{norm}"] = _each(lambda a, g, n=norm: weighted_by_gradient(a, g, n), a, g)
        last = _each(lambda a, g: attention_gradcam(a, g, e, prefix), a[:, -1:], g[:, :, -1:])
        found["attention_gradcam"] = last[:, :, 0]
    if r is not None:
        found["relevance_positive"] = _each(lambda r: _positive(r).mean(axis=0), r)
    if g is not None and r is not None:
        found["gradient_relevance_positive"] = _each(lambda g, r: _positive(g * r).mean(axis=0), g, r)
    if d is not None:
        found["layer_gradient_positive"] = _each(lambda d: _positive(d).mean(axis=(0, 1)), d)
    return found
