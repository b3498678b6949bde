"""The constants of the LRP rules that an artifact is exported with, and what is valid of them."""

import math

from .errors import OnnxplainError
from .validation import is_number

RULES = {"alpha": 1.0, "beta": 0.0, "gamma_conv": 0.0, "gamma_linear": 0.0, "gamma_attention": 0.0}
"""All of them, with the values that they have unless export is asked for others."""

EARLIER_RULES = ("alpha", "beta", "gamma")
"""Those of artifacts from when all layers had one gamma, of a rule that did not favour the bias."""


def checked_rules(
    alpha: float = RULES["alpha"],
    beta: float | None = None,
    gamma: float | None = None,
    gamma_conv: float | None = None,
    gamma_linear: float | None = None,
    gamma_attention: float | None = None,
) -> dict[str, float]:
    """The constants as numbers, by the names in RULES.

    Args:
        alpha: Of Chefer's rule for linear layers, at least 1.
        beta: Of the same rule; alpha - 1 if it is None.
        gamma: Each of the following three, in place of them.
        gamma_conv: Of AttnLRP's rule for convolutions, from 0.
        gamma_linear: Of the same rule for linear layers, but those of attention.
        gamma_attention: Of the same rule for the linear layers of attention: queries, keys, values and output.

    Raises:
        OnnxplainError: One is no number or too small, alpha - beta is not 1, so that relevance would not keep its sum,
            or `gamma` is given beside one that it stands for.
    """
    shared = 0.0 if gamma is None else gamma
    own = {"gamma_conv": gamma_conv, "gamma_linear": gamma_linear, "gamma_attention": gamma_attention}
    gammas = {name: shared if value is None else value for name, value in own.items()}
    for name, value in {"alpha": alpha, "beta": 0.0 if beta is None else beta, "gamma": shared, **gammas}.items():
        if not is_number(value):
            raise OnnxplainError(f"`{name}` must be a number, got {value!r}")
        if name.startswith("gamma") and value < 0:
            raise OnnxplainError(f"`{name}` must be at least 0, got {value:g}")
    beta = alpha - 1 if beta is None else beta
    if alpha < 1 or not math.isclose(alpha - beta, 1, abs_tol=1e-9):
        raise OnnxplainError(
            f"`alpha` must be at least 1 and `beta` one less than `alpha`, got alpha {alpha:g} and beta {beta:g}"
        )
    given = [name for name, value in own.items() if value is not None]
    if gamma is not None and given:
        raise OnnxplainError(
            "`gamma` stands for `gamma_conv`, `gamma_linear` and `gamma_attention`: give it or them, not both, got "
            f"`gamma` and `{given[0]}`"
        )
    return {name: float(value) for name, value in {"alpha": alpha, "beta": beta, **gammas}.items()}
