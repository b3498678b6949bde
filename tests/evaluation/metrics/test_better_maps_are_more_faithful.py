"""On demo scenes: the mask of a digit is a better map than its blur, that than random patches, that than its negative.

The negative is 1 - mask; the class judged for is the digit of the scene that the model sees most clearly. Where a
metric does not have the whole property, it is said why:

* Metrics that read the order of pixels alone do not prefer the mask to its blur. The mask leaves the order within the
  digit's box to chance, so that removal thins the digit out, while the blur removes it in one piece, which the model
  can spare less; from the rim inwards it would be the same. Both are far above random patches.
* Average drop does not mind maps that keep more than the object, which is why ADCC has its complexity.
* Insertion into a blurred image has no answer here: most of the digits are legible under the blur of RISE, which was
  made for 224 pixels. It is measured into the mean.
* Average increase counts images, and the model is so sure of all that it is chance whether it becomes surer.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from onnxplain.contract.preprocessing import Preprocessing
from onnxplain.demo.scenes import scene
from onnxplain.evaluation.metrics.metric import Case
from onnxplain.evaluation.metrics.table import METRICS
from onnxplain.evaluation.yardsticks import random
from onnxplain.export import load_backbone
from onnxplain.runtime.explanation import ACTIVATION_FUNCTIONS
from tests.helpers.cases import judged

WHOLE = ("adcc", "saco", "infidelity")
IN_PART = ("perturbation_positive", "perturbation_negative", "road", "average_drop")
MANY_RUNS = {"insertion": "mean", "deletion": "mean", "srg": "mean"}
BLUR = 12  # pixels: a third of a digit


def scenes(count):
    """Cases of scenes, the class that is judged for, and the four maps, best first."""
    backbone = load_backbone("demo")
    activation = ACTIVATION_FUNCTIONS[backbone.activation]

    def model(pixels):
        with torch.inference_mode():
            return torch.cat([backbone.model(part) for part in torch.from_numpy(pixels).split(64)]).numpy()

    found = []
    for seed in range(10_000, 10_000 + count):
        drawn = scene(seed)
        pixels = (drawn.image.transpose(2, 0, 1) / 127.5 - 1).astype(np.float32)
        (logits,) = model(pixels[None])
        preprocessing = Preprocessing(pixels.shape[1:], (0.5,) * 3, (0.5,) * 3)
        case = Case(pixels, logits, lambda values: activation(values.astype(np.float64)), preprocessing, (12, 12), seed)
        target, (left, top, right, bottom) = max(
            zip(drawn.labels, drawn.boxes, strict=True), key=lambda shown: logits[shown[0]]
        )
        mask = np.zeros(pixels.shape[1:], np.float32)
        mask[top:bottom, left:right] = 1
        found.append((case, target, (mask, gaussian_filter(mask, BLUR), random(case), 1 - mask)))
    return model, found


def scores(name, model, found, baseline=""):
    """The metric's value of each of the four maps over all scenes, the higher the better."""
    metric = METRICS[name]

    def parts(case, target, heatmap):
        given = judged(metric, case, model, heatmap, target, baseline)
        return metric.function(replace(given, own_maps=lambda inputs: [heatmap] * len(inputs)))

    every = [[parts(case, target, heatmap) for heatmap in maps] for case, target, maps in found]
    values = metric.combine(np.mean(every, axis=0))
    return values if metric.better == "higher" else -values


@pytest.fixture(scope="module")
def twenty():
    return scenes(20)


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_all_four_maps_in_order(name, twenty):
    mask, blur, patches, negative = scores(name, *twenty)
    assert mask > blur > patches > negative


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_PART)
def test_mask_and_blur_above_the_others(name, twenty):
    mask, blur, patches, negative = scores(name, *twenty)
    assert min(mask, blur) > patches > negative


@pytest.mark.slow
@pytest.mark.parametrize("name", MANY_RUNS)
def test_mask_and_blur_above_the_others_by_many_runs(name):
    mask, blur, patches, negative = scores(name, *scenes(4), baseline=MANY_RUNS[name])
    assert min(mask, blur) > patches > negative


def test_average_increase_prefers_the_mask_to_its_negative():
    model, found = scenes(10)
    mask, *_, negative = scores("average_increase", model, found)
    assert mask > negative


def test_saco_and_average_drop_of_a_few_scenes():
    model, found = scenes(10)
    for name in ("saco", "average_drop"):
        mask, blur, patches, negative = scores(name, model, found)
        assert min(mask, blur) > patches > negative
