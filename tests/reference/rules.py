"""Each relevance rule in the least clever way: float64, one contribution at a time, tiny tensors only.

Nothing here is shared with `propagation`. All rules take and return float64 CPU tensors.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-9


def divide(numerator: float, denominator: float) -> float:
    """numerator / (denominator + 1e-9), and 0 where the denominator is 0."""
    return 0.0 if denominator == 0 else numerator / (denominator + EPSILON)


def linear(x: Tensor, weight: Tensor, relevance: Tensor, alpha: float = 1.0, beta: float = 0.0) -> Tensor:
    """R_i = sum_j (alpha c_ij+ / sum_i c_ij+  -  beta c_ij- / sum_i c_ij-) R_j with c_ij = x_i W_ji.

    x [rows, in], weight [out, in], relevance [rows, out]. (Bach et al. 2015, eq. 60, without the bias.)
    """
    result = [[0.0] * x.shape[1] for _ in range(x.shape[0])]
    for row, (values, received) in enumerate(zip(x.tolist(), relevance.tolist(), strict=True)):
        for weights, r in zip(weight.tolist(), received, strict=True):
            contributions = [value * w for value, w in zip(values, weights, strict=True)]
            per_positive = divide(r, sum(c for c in contributions if c > 0))
            per_negative = divide(r, sum(c for c in contributions if c < 0))
            for i, c in enumerate(contributions):
                if c > 0:
                    result[row][i] += alpha * c * per_positive
                elif c < 0:
                    result[row][i] -= beta * c * per_negative
    return torch.tensor(result, dtype=torch.float64)


def matmul(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Z_ij = sum_k A_ik B_kj: half of A_ik B_kj R_ij / Z_ij to A_ik, half to B_kj. Two-dimensional tensors."""
    rows_a, columns_b, r = a.tolist(), b.t().tolist(), relevance.tolist()
    relevance_a = [[0.0] * a.shape[1] for _ in range(a.shape[0])]
    relevance_b = [[0.0] * b.shape[1] for _ in range(b.shape[0])]
    for i, row in enumerate(rows_a):
        for j, column in enumerate(columns_b):
            z = sum(p * q for p, q in zip(row, column, strict=True))
            for k, (p, q) in enumerate(zip(row, column, strict=True)):
                share = p * q * divide(r[i][j], z)
                relevance_a[i][k] += share / 2
                relevance_b[k][j] += share / 2
    return torch.tensor(relevance_a, dtype=torch.float64), torch.tensor(relevance_b, dtype=torch.float64)


def add(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Residual a + b: a R / (a + b) and b R / (a + b).

    Per image (first axis), the two sums are brought into the ratio of their absolute values and together to sum R.
    """
    result_a, result_b = torch.zeros_like(a, dtype=torch.float64), torch.zeros_like(b, dtype=torch.float64)
    for image in range(a.shape[0]):
        flat_a, flat_b, flat_r = (t[image].flatten().tolist() for t in (a, b, relevance))
        part_a = [p * divide(r, p + q) for p, q, r in zip(flat_a, flat_b, flat_r, strict=True)]
        part_b = [q * divide(r, p + q) for p, q, r in zip(flat_a, flat_b, flat_r, strict=True)]
        sum_a, sum_b, total = sum(part_a), sum(part_b), sum(flat_r)
        wanted_a = divide(abs(sum_a), abs(sum_a) + abs(sum_b)) * total
        wanted_b = divide(abs(sum_b), abs(sum_a) + abs(sum_b)) * total
        for index in range(len(flat_a)):
            result_a[image].view(-1)[index] = part_a[index] * divide(wanted_a, sum_a)
            result_b[image].view(-1)[index] = part_b[index] * divide(wanted_b, sum_b)
    return result_a, result_b


def mean_tokens(x: Tensor, relevance: Tensor) -> Tensor:
    """m_d = (1/n) sum_t x_td: token t gets x_td R_d / (n m_d). x [B, n, D], relevance [B, D]."""
    result = torch.zeros_like(x, dtype=torch.float64)
    images, tokens, features = x.shape
    for image in range(images):
        for d in range(features):
            mean = sum(float(x[image, t, d]) for t in range(tokens)) / tokens
            for t in range(tokens):
                result[image, t, d] = float(x[image, t, d]) / tokens * divide(float(relevance[image, d]), mean)
    return result


def sum_tokens(x: Tensor, relevance: Tensor) -> Tensor:
    """s_d = sum_t x_td: token t gets x_td R_d / s_d. x [B, n, D], relevance [B, D]."""
    result = torch.zeros_like(x, dtype=torch.float64)
    for image, tokens in enumerate(x.tolist()):
        for d in range(x.shape[2]):
            total = sum(values[d] for values in tokens)
            for t, values in enumerate(tokens):
                result[image, t, d] = values[d] * divide(float(relevance[image, d]), total)
    return result


def product(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Elementwise a * b: half of the relevance to each factor, whatever their values."""
    result_a, result_b = torch.zeros_like(a, dtype=torch.float64), torch.zeros_like(b, dtype=torch.float64)
    for index in range(relevance.numel()):
        result_a.view(-1)[index] = float(relevance.flatten()[index]) / 2
        result_b.view(-1)[index] = float(relevance.flatten()[index]) / 2
    return result_a, result_b


def linear_z_b(x: Tensor, weight: Tensor, relevance: Tensor, low: float, high: float) -> Tensor:
    """R_i = sum_j (x_i w_ji - l w_ji+ - u w_ji-) / sum_i (same) R_j: inputs between l and u, no bias.

    x [rows, in], weight [out, in], relevance [rows, out].
    """
    result = torch.zeros_like(x, dtype=torch.float64)
    for row, (values, received) in enumerate(zip(x.tolist(), relevance.tolist(), strict=True)):
        for weights, r in zip(weight.tolist(), received, strict=True):
            shares = [v * w - low * max(w, 0.0) - high * min(w, 0.0) for v, w in zip(values, weights, strict=True)]
            each = divide(r, sum(shares))
            for i, share in enumerate(shares):
                result[row, i] += share * each
    return result


def linear_gamma(x: Tensor, weight: Tensor, bias: Tensor | None, relevance: Tensor, gamma: float) -> Tensor:
    """R_i = sum_j (f_ij + gamma f_ij+) / (y_j + gamma (sum_i f_ij+ + b_j+)) R_j with f_ij = x_i w_ji.

    Where y_j < 0 with f- and b- instead. x [rows, in], weight [out, in], bias [out], relevance [rows, out]. gamma = 0
    is LRP-0.
    """
    result = torch.zeros_like(x, dtype=torch.float64)
    biases = [0.0] * len(weight) if bias is None else bias.tolist()
    for row, (values, received) in enumerate(zip(x.tolist(), relevance.tolist(), strict=True)):
        for weights, constant, r in zip(weight.tolist(), biases, received, strict=True):
            f = [v * w for v, w in zip(values, weights, strict=True)]
            y = sum(f) + constant
            *favoured, favoured_bias = (max(c, 0.0) if y > 0 else min(c, 0.0) for c in (*f, constant))
            total = y + gamma * (sum(favoured) + favoured_bias)
            for i in range(len(f)):
                result[row, i] += (f[i] + gamma * favoured[i]) / total * r
    return result


def patches(rule: Callable[[Tensor, Tensor], Tensor], x: Tensor, relevance: Tensor, size: tuple[int, int]) -> Tensor:
    """A rule for linear layers on each patch of one image: x [C, H, W], relevance [D, h, w] -> [C, H, W].

    rule: (patch as a row [1, C p q], its relevance [1, D]) -> [1, C p q].
    """
    result = torch.zeros_like(x, dtype=torch.float64)
    p, q = size
    for row in range(x.shape[1] // p):
        for column in range(x.shape[2] // q):
            window = (slice(None), slice(row * p, row * p + p), slice(column * q, column * q + q))
            shares = rule(x[window].reshape(1, -1), relevance[:, row, column][None])
            result[window] = shares.reshape(x[window].shape)
    return result


def conservation_error(before: Tensor, *after: Tensor) -> float:
    """Largest |sum of the parts - sum R| over the images (first axis), relative to max(1, |sum R|)."""
    errors = []
    for image in range(before.shape[0]):
        total = float(before[image].sum())
        parts = sum(float(part[image].sum()) for part in after)
        errors.append(abs(parts - total) / max(1.0, abs(total)))
    return max(errors)


Place = tuple[int, int, int]
"""(channel, row, column)."""


def products(
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Iterator[tuple[Place, list[tuple[Place, float]]]]:
    """For each output of a convolution: its place, and the places in x that it is a sum of, each with its weight.

    x: one image [C, H, W]; its padding is left out. weight: [O, C / groups, kh, kw].
    """
    channels, height, width = x.shape
    outputs, depth, *kernel = weight.shape
    sizes = (height, width)
    rows, columns = (
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip(sizes, padding, dilation, kernel, stride, strict=True)
    )
    for o in range(outputs):
        first_channel = o // (outputs // groups) * (channels // groups)
        for i in range(rows):
            for j in range(columns):
                terms = []
                for c in range(depth):
                    for u in range(kernel[0]):
                        for v in range(kernel[1]):
                            row = i * stride[0] - padding[0] + u * dilation[0]
                            column = j * stride[1] - padding[1] + v * dilation[1]
                            if 0 <= row < height and 0 <= column < width:
                                terms.append(((first_channel + c, row, column), float(weight[o, c, u, v])))
                yield (o, i, j), terms


def first_convolution(x: Tensor, weight: Tensor, relevance: Tensor, **geometry: Any) -> Tensor:
    """The z-B rule (Montavon et al. 2017, eq. 17) of one image x [C, H, W].

    Its values lie in [l, h], its own minimum and maximum. Input p gets q_pj R_j / sum_p q_pj of output j, with
    q_pj = x_p w_pj - l w_pj+ - h w_pj-.
    relevance [O, h, w]. geometry: as for `products`. The bias gets nothing.
    """
    low, high = float(x.min()), float(x.max())
    result = torch.zeros_like(x, dtype=torch.float64)
    for output, terms in products(x, weight, **geometry):
        parts = [(p, float(x[p]) * w - low * max(w, 0.0) - high * min(w, 0.0)) for p, w in terms]
        quotient = divide(float(relevance[output]), sum(part for _, part in parts))
        for p, part in parts:
            result[p] += part * quotient
    return result
