"""Metrics that change the input, pixel by pixel in float64: slow, and written from their definitions.

Inputs are [3, H, W], maps [H, W] without equal values; `logits(pixels)` gives those of one input, [classes], and
`fill(pixels, places)` the input without these places, a list of (row, column).
"""

from functools import cache

import numpy as np


def softmax(logits):
    powers = [np.exp(logit) for logit in logits]
    return [power / sum(powers) for power in powers]


def ranked(heatmap, highest_first):
    places = [(row, column) for row in range(heatmap.shape[0]) for column in range(heatmap.shape[1])]
    return sorted(places, key=lambda place: heatmap[place], reverse=highest_first)


def constant_fill(colour):
    def fill(pixels, places):
        changed = pixels.copy()
        for row, column in places:
            for channel in range(3):
                changed[channel, row, column] = colour[channel]
        return changed

    return fill


def reflected(index, length):
    if index < 0:
        return -index
    return 2 * (length - 1) - index if index >= length else index


def blur_fill(pixels, places):
    changed, blurred = pixels.copy(), blur(pixels.tobytes(), pixels.shape)
    for row, column in places:
        changed[:, row, column] = blurred[:, row, column]
    return changed


@cache
def blur(content, shape):
    pixels, blurred = np.frombuffer(content).reshape(shape), np.zeros(shape)
    offsets = range(-5, 6)
    weights = {(i, j): np.exp(-(i * i + j * j) / (2 * 5 * 5)) for i in offsets for j in offsets}
    for row in range(shape[1]):
        for column in range(shape[2]):
            for (i, j), weight in weights.items():
                neighbour = pixels[:, reflected(row + i, shape[1]), reflected(column + j, shape[2])]
                blurred[:, row, column] += weight / sum(weights.values()) * neighbour
    return blurred


def linear_fill(pixels, places):
    """ROAD without noise, by a dense system of equations."""
    changed, place_of = pixels.copy(), {place: index for index, place in enumerate(places)}
    matrix, right = np.eye(len(places)), np.zeros((len(places), 3))
    for (row, column), equation in place_of.items():
        weights = {}
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                y, x = row + i, column + j
                if (i or j) and 0 <= y < pixels.shape[1] and 0 <= x < pixels.shape[2]:
                    weights[y, x] = 1 / 12 if i and j else 1 / 6
        total = sum(weights.values())
        for neighbour, weight in weights.items():
            share = weight / total
            if neighbour in place_of:
                matrix[equation, place_of[neighbour]] -= share
            else:
                right[equation] += share * pixels[:, neighbour[0], neighbour[1]]
    for (row, column), value in zip(places, np.linalg.solve(matrix, right), strict=True):
        changed[:, row, column] = value
    return changed


def trapezoids(x, y):
    return sum((x[k + 1] - x[k]) * (y[k] + y[k + 1]) / 2 for k in range(len(x) - 1))


def perturbation(pixels, heatmap, logits, target, fill, highest_first):
    places, hits = ranked(heatmap, highest_first), []
    for tenths in range(10):
        scores = logits(fill(pixels, places[: int(heatmap.size * tenths / 10 + 1e-9)]))
        hits.append(1 if max(range(len(scores)), key=lambda index: scores[index]) == target else 0)
    return 100 * trapezoids([tenths / 10 for tenths in range(10)], hits)


def deletion(pixels, heatmap, logits, target, fill):
    places, scores = ranked(heatmap, True), []
    for step in range(225):
        scores.append(softmax(logits(fill(pixels, places[: step * heatmap.size // 224])))[target])
    return (sum(scores) - scores[0] / 2 - scores[-1] / 2) / 224


def insertion(pixels, heatmap, logits, target, fill):
    places, scores = ranked(heatmap, True), []
    for step in range(225):
        scores.append(softmax(logits(fill(pixels, places[step * heatmap.size // 224 :])))[target])
    return (sum(scores) - scores[0] / 2 - scores[-1] / 2) / 224


def srg(pixels, heatmap, logits, target, fill, patch):
    rows, columns = heatmap.shape[0] // patch, heatmap.shape[1] // patch
    means = np.array(
        [
            [heatmap[r * patch : (r + 1) * patch, c * patch : (c + 1) * patch].mean() for c in range(columns)]
            for r in range(rows)
        ]
    )
    areas = []
    for highest_first in (False, True):
        removed, curve = [], [logits(pixels)[target]]
        for row, column in ranked(means, highest_first):
            removed += [(row * patch + i, column * patch + j) for i in range(patch) for j in range(patch)]
            curve.append(logits(fill(pixels, removed))[target])
        areas.append(sum(curve) / len(curve))
    return areas[0] - areas[1]


def road(pixels, heatmap, logits, target, fill):
    gaps = []
    for tenths in range(1, 10):
        count = heatmap.size * tenths // 10
        lowest, highest = (
            softmax(logits(fill(pixels, ranked(heatmap, first)[:count])))[target] for first in (False, True)
        )
        gaps.append((lowest - highest) / 2)
    return sum(gaps) / len(gaps)


def masked(pixels, heatmap):
    low, high = heatmap.min(), heatmap.max()
    return np.array([channel * (heatmap - low) / (high - low) for channel in pixels])


def average_drop(pixels, heatmap, logits, target):
    before, after = (softmax(logits(each))[target] for each in (pixels, masked(pixels, heatmap)))
    return max(0, before - after) / before


def adcc(pixels, heatmap, logits, target, explain):
    drop = average_drop(pixels, heatmap, logits, target)
    complexity = ((heatmap - heatmap.min()) / (heatmap.max() - heatmap.min())).mean()
    again = explain(masked(pixels, heatmap))
    coherency = (np.corrcoef(heatmap.ravel(), again.ravel())[0, 1] + 1) / 2
    return 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop))


def saco(pixels, heatmap, logits, target, fill):
    places, before = ranked(heatmap, True), softmax(logits(pixels))[target]
    size = len(places) // 10  # which must be whole
    groups = [places[k * size : (k + 1) * size] for k in range(10)]
    values = [sum(heatmap[place] for place in group) for group in groups]
    drops = [before - softmax(logits(fill(pixels, group)))[target] for group in groups]
    coefficient = total = 0.0
    for i in range(10):
        for j in range(i + 1, 10):
            weight = values[i] - values[j] if drops[i] >= drops[j] else values[j] - values[i]
            coefficient += weight
            total += abs(weight)
    return coefficient / total


def infidelity(pixels, heatmap, logits, target, fill, squares):
    """For squares given as lists of places; the best scale is found by a search."""
    sums = [sum(heatmap[place] for place in square) for square in squares]
    drops = [logits(pixels)[target] - logits(fill(pixels, square))[target] for square in squares]

    def error(scale):
        return sum((scale * s - drop) ** 2 for s, drop in zip(sums, drops, strict=True)) / len(sums)

    low, high = -1e3, 1e3  # a parabola has one minimum
    while high - low > 1e-9:
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if error(left) < error(right) else (left, high)
    return error((low + high) / 2)
