"""What docs/evaluation.md uses of Quantus 0.6, calling models and functions as it does; it needs OpenCV and libGL."""

import numpy as np
import torch


class PixelFlipping:
    """The predicted probability as features are replaced, those with the highest attribution first.

    A feature is a value of the input, [3, H, W]; maps of one channel are those of all three.
    """

    def __init__(self, features_in_step, perturb_baseline):
        self.features_in_step, self.perturb_baseline = features_in_step, perturb_baseline

    def __call__(self, model, x_batch, y_batch, a_batch, explain_func, explain_func_kwargs):
        assert a_batch is None and not model.training
        maps = explain_func(model=model, inputs=x_batch, targets=y_batch, device=None, **explain_func_kwargs)
        assert maps.shape == (len(x_batch), 1, *x_batch.shape[2:])
        order = np.argsort(-np.broadcast_to(maps, x_batch.shape).reshape(len(maps), -1), axis=1)
        changed, scores = x_batch.reshape(len(maps), -1).copy(), []
        for begin in range(0, order.shape[1], self.features_in_step):
            np.put_along_axis(changed, order[:, begin : begin + self.features_in_step], self.perturb_baseline, axis=1)
            with torch.no_grad():
                predictions = torch.softmax(model(torch.Tensor(changed.reshape(x_batch.shape))), dim=-1).numpy()
            scores.append(predictions[np.arange(len(maps)), y_batch])
        return np.stack(scores, axis=1).tolist()
