"""The constants of the LRP rules: what is given, what is meant, what is refused."""

import pytest

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.lrp_rules import RULES, checked_rules

GAMMAS = ("gamma_conv", "gamma_linear", "gamma_attention")


def test_defaults():
    assert checked_rules() == RULES and list(checked_rules()) == list(RULES)
    assert all(isinstance(value, float) for value in checked_rules(2, gamma=1).values())
    assert checked_rules(alpha=2)["beta"] == 1.0


def test_gamma_is_of_all_layers_and_the_others_of_their_own():
    assert checked_rules(gamma=0.25) == RULES | dict.fromkeys(GAMMAS, 0.25)
    assert checked_rules(gamma=0) == RULES
    published = checked_rules(gamma_conv=0.25, gamma_linear=0.05)
    assert published == RULES | {"gamma_conv": 0.25, "gamma_linear": 0.05, "gamma_attention": 0.0}
    for name in GAMMAS:
        assert checked_rules(**{name: 0.5}) == RULES | {name: 0.5}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alpha": None}, "`alpha` must be a number, got None"),
        ({"alpha": True}, "`alpha` must be a number, got True"),
        ({"alpha": 0.5, "beta": -0.5}, "`alpha` must be at least 1 and `beta` one less than `alpha`, got alpha 0.5"),
        ({"gamma": "1"}, "`gamma` must be a number, got '1'"),
        ({"gamma_linear": float("nan")}, "`gamma_linear` must be a number, got nan"),
        *[({name: -0.1}, f"`{name}` must be at least 0, got -0.1") for name in ("gamma", *GAMMAS)],
        *[({"gamma": 0.0, name: 0.0}, f"give it or them, not both, got `gamma` and `{name}`") for name in GAMMAS],
    ],
)
def test_refused(given, message):
    with pytest.raises(OnnxplainError) as error:
        checked_rules(**given)
    assert message in str(error.value) and "\n" not in str(error.value)
