"""The graph's reductions of raw tensors of one image and one target, as their definitions stand, head by head."""

import numpy as np


def _weights(gradient, power):
    """w_h: each head's share of the norms of a layer's gradient [H, N, N]."""
    norms = [(np.abs(head) ** power).sum() ** (1 / power) for head in gradient]
    return [norm / sum(norms) if sum(norms) > 0 else 1 / len(norms) for norm in norms]


def reductions(tensors, layout):
    """`tensors`: attention, gradient, relevance, layer_gradient, each [L, H, N, N]; the outputs by name."""
    a, g, r, d = (tensors[name] for name in ("attention", "gradient", "relevance", "layer_gradient"))
    layers, heads, size, _ = a.shape
    found = {name: np.zeros((layers, size, size)) for name in ("gradient_attention_positive", "relevance_positive")}
    found["gradient_relevance_positive"] = np.zeros((layers, size, size))
    found["attention_by_gradient_l1"] = np.zeros((layers, size, size))
    found["attention_by_gradient_l2"] = np.zeros((layers, size, size))
    found["layer_gradient_positive"] = np.zeros((layers, size))
    for layer in range(layers):
        weights = {1: _weights(g[layer], 1), 2: _weights(g[layer], 2)}
        for head in range(heads):
            ga, gr = g[layer, head] * a[layer, head], g[layer, head] * r[layer, head]
            found["gradient_attention_positive"][layer] += np.where(ga > 0, ga, 0) / heads
            found["gradient_relevance_positive"][layer] += np.where(gr > 0, gr, 0) / heads
            found["relevance_positive"][layer] += np.where(r[layer, head] > 0, r[layer, head], 0) / heads
            for power, shares in weights.items():
                found[f"attention_by_gradient_l{power}"][layer] += shares[head] * a[layer, head]
            for row in d[layer, head]:
                found["layer_gradient_positive"][layer] += np.where(row > 0, row, 0) / (heads * size)
    for name, tensor in (("attention", a), ("gradient_attention", g * a)):
        stacked = [tensor[:, head] for head in range(heads)]
        found[f"{name}_mean"] = sum(stacked) / heads
        found[f"{name}_max"] = np.max(stacked, axis=0)
        found[f"{name}_min"] = np.min(stacked, axis=0)
    e, cam = layout.readout_row(), np.zeros(size)
    for head in range(heads):
        weight = np.mean([e @ g[-1, head][:, token] for token in range(layout.prefix_tokens, size)])
        cam += weight * (e @ a[-1, head]) / heads
    found["attention_gradcam"] = cam
    return found
