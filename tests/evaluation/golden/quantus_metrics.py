"""What Quantus says of some maps, for the tests of ours: writes quantus.npz beside this file.

    pip install quantus==0.6.0 && python tests/evaluation/golden/quantus_metrics.py

The maps are positive, as Quantus divides by their sums; `noisy` are the inputs of which max-sensitivity takes maps.
"""

from pathlib import Path

import numpy as np
import quantus
import torch

SIZE = 6, 8
PLAIN = {"normalise": False, "disable_warnings": True, "display_progressbar": False}


def explain(model: object, inputs: np.ndarray, targets: object, **_: object) -> np.ndarray:
    """A map for each input [n, 3, H, W] that is no linear function of it."""
    return np.abs(np.sin(3 * inputs) * inputs**2).sum(axis=1, keepdims=True)


def main() -> None:
    """Write the file."""
    rng = np.random.default_rng(0)
    maps = rng.exponential(size=(5, 1, *SIZE))
    masks = np.zeros((5, 1, *SIZE), np.uint8)
    for index in range(5):
        masks[index, 0, index : index + 2, 1 : 3 + index] = 1
    inputs = rng.normal(size=(1, 3, *SIZE))
    noisy = inputs + rng.uniform(-0.02, 0.02, (10, 3, *SIZE))
    draws = iter(noisy.reshape(10, 1, -1))
    sensitivity = quantus.MaxSensitivity(
        nr_samples=10, perturb_func=lambda arr, **_: next(draws), return_nan_when_prediction_changes=False, **PLAIN
    )
    given = {"model": None, "x_batch": np.zeros((5, 3, *SIZE)), "y_batch": np.zeros(5, int)}
    np.savez_compressed(
        Path(__file__).with_name("quantus.npz"),
        version=quantus.__version__,
        maps=maps[:, 0],
        masks=masks[:, 0],
        sparseness=quantus.Sparseness(**PLAIN)(a_batch=maps.copy(), **given),
        complexity=quantus.Complexity(**PLAIN)(a_batch=maps.copy(), **given),
        mass=quantus.RelevanceMassAccuracy(**PLAIN)(a_batch=maps.copy(), s_batch=masks, **given),
        rank=quantus.RelevanceRankAccuracy(**PLAIN)(a_batch=maps.copy(), s_batch=masks, **given),
        inputs=inputs[0],
        noisy=noisy,
        clear_map=explain(None, inputs, None)[0, 0],
        noisy_maps=explain(None, noisy, None)[:, 0],
        max_sensitivity=sensitivity(
            # It asks the model for predictions, of which the result is no function.
            model=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(2)).double(),
            x_batch=inputs,
            y_batch=np.zeros(1, int),
            a_batch=explain(None, inputs, None),
            explain_func=explain,
        ),
    )


if __name__ == "__main__":
    main()
