"""The metadata document: a round trip, and every broken field named."""

import json

import pytest

from onnxplain.contract.metadata import SCHEMA
from onnxplain.contract.outputs import OUTPUTS
from onnxplain.runtime import PASSES, REDUCTIONS, Metadata, OnnxplainError, Preprocessing

RULES = {"alpha": 2, "beta": 1.0, "gamma_conv": 0.25, "gamma_linear": 0.05, "gamma_attention": 0.0}


def _metadata(**changes):
    values = {
        "model": "tiny",
        "checkpoint": {"source": "random", "sha256": None},
        "preprocessing": Preprocessing((32, 48), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 0.9, "border", "lanczos"),
        "labels": ["tench, Tinca tinca", "Käse"],
        "activation": "softmax",
        "patch_grid": [2, 3],
        "prefix_tokens": 1,
        "readout": [0],
        "layers": 2,
        "heads": 4,
        "token_width": 64,
        "hidden_width": 256,
        "passes": ["attention", "gradient"],
        "rules": RULES,
        "parity": {"logits": {"max_error": 1e-7}},
    }
    return Metadata(**{**values, **changes})


def test_round_trip():
    metadata = _metadata()
    document = json.loads(metadata.to_json())
    assert document["schema"] == SCHEMA and document["patch_grid"] == [2, 3]
    assert document["preprocessing"]["size"] == [32, 48]
    read = Metadata.from_json(metadata.to_json())
    assert read == metadata
    assert read.labels == ("tench, Tinca tinca", "Käse") and read.preprocessing.crop_mode == "border"
    assert read.layout.tokens == 7


def test_unknown_fields_are_ignored():
    document = json.loads(_metadata().to_json()) | {"colour": "blue"}
    assert Metadata.from_json(json.dumps(document)) == _metadata()


def test_unknown_ways_to_prepare_images_are_refused():
    document = json.loads(_metadata().to_json())
    document["preprocessing"]["gamma"] = 2.2
    with pytest.raises(OnnxplainError, match="does not know the preprocessing field 'gamma'"):
        Metadata.from_json(json.dumps(document))


def test_artifacts_written_before_crops_could_be_rounded_otherwise_are_cropped_as_before():
    document = json.loads(_metadata().to_json())
    assert document["preprocessing"].pop("crop_rounding") == "half_even"
    assert Metadata.from_json(json.dumps(document)) == _metadata()


def test_artifacts_with_one_gamma_for_all_layers_still_open_and_keep_it():
    rules = {"alpha": 2, "beta": 1.0, "gamma": 0.25}
    document = json.loads(_metadata().to_json()) | {"rules": rules}
    assert Metadata.from_json(json.dumps(document)).rules == rules


BROKEN = {
    "model": [3, None],
    "checkpoint": ["x", {}, {"source": 1, "sha256": None}, {"source": "x"}],
    "labels": [[], "abc", ["a", 1], None],
    "activation": ["relu", None],
    "patch_grid": [[2], [2, 0], [2, 3.0], 14, [2, 3, 4], [10**9, 10**9], [33, 1], [1, 49]],
    "prefix_tokens": [-1, True, "1", 10**9],
    "readout": [[], [7], [-1], 0, [1, 1]],
    "layers": [0, 1.0, 10**9],
    "heads": [0, None, 10**9],
    "token_width": [0, None, 10**9],
    "hidden_width": [0, 1.5, 10**9],
    "pool_heads": [-1, 10**9],
    "passes": [[], ["gradient"], ["attention", "attention"], ["attention", "magic"], ["attention", ["gradient"]]],
    "rules": [None, {}, {"alpha": 1.0, "beta": 0.0}, {"alpha": 1.0, "beta": 0.0, "gamma": "0"}, {"alpha": 1, "b": 2}]
    + [{"alpha": 1, "beta": 0, "gamma": value} for value in (10**400, -(10**400), float("nan"), float("inf"))]
    + [RULES | {"gamma": 0.25}, RULES | {"gamma_conv": None}, {"alpha": 1.0, "beta": 0.0, "gamma_conv": 0.25}],
    "parity": [None, [1]],
    "preprocessing": [None, 3],
}
BROKEN_PREPROCESSING = {
    "size": [[32], [32, -1], 224, [8193, 32], [32, 10**9]],
    "crop_pct": [0, "0.9", None, 0.099, 10.1, 1e-40, 10**400, float("nan"), float("inf")],
    "crop_mode": ["middle"],
    "crop_rounding": ["down", None, 1],
    "interpolation": ["random", "cubic"],
    "mean": [[0.5], [0.5, 0.5, "x"], [0, 0, 11], [-11, 0, 0], [0, 1e38, 0], [0, 0, float("nan")], [10**400, 0, 0]],
    "std": [[1, 1, 0], [1, 1], [1, 1e-40, 1], [1, 1, 1e4], [-1, 1, 1], [1, 1, float("nan")], [1, 1, float("inf")]],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BROKEN.items() for value in values])
def test_broken_field_is_named(name, value):
    document = json.loads(_metadata().to_json()) | {name: value}
    with pytest.raises(OnnxplainError, match=f"^not an onnxplain artifact: .*{name}") as error:
        Metadata.from_json(json.dumps(document))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BROKEN_PREPROCESSING.items() for value in values]
)
def test_broken_preprocessing_is_named(name, value):
    document = json.loads(_metadata().to_json())
    document["preprocessing"][name] = value
    with pytest.raises(OnnxplainError, match=f"^not an onnxplain artifact: .*'{name}' must be"):
        Metadata.from_json(json.dumps(document))


@pytest.mark.parametrize("name", ["size", "crop_mode", "std"])
def test_missing_field_of_preprocessing_is_named(name):
    document = json.loads(_metadata().to_json())
    del document["preprocessing"][name]
    with pytest.raises(OnnxplainError, match=f"'{name}' of Preprocessing is missing"):
        Metadata.from_json(json.dumps(document))


@pytest.mark.parametrize("name", [name for name in BROKEN if name != "pool_heads"])  # which younger files have
def test_missing_field_is_named(name):
    document = json.loads(_metadata().to_json())
    del document[name]
    with pytest.raises(OnnxplainError, match=f"{name}.* is missing"):
        Metadata.from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (f'{{"schema": {"9" * 5000}}}', "not JSON"),
        ("[]", "must be a JSON object, got list"),
        ('{"schema": 99}', f"schema is 99, this version reads {SCHEMA}; open it with the version that wrote it"),
        ('{"schema": 3}', f"schema is 3, this version reads {SCHEMA}; export it again with this version"),
        ("{}", "schema is None"),
    ],
)
def test_other_documents(text, message):
    with pytest.raises(OnnxplainError, match=f"not an onnxplain artifact: .*{message}"):
        Metadata.from_json(text)


@pytest.mark.parametrize("value", [[1], {"rollout": 1}, {"rollout": {"a": None}}, {"rollout": {"a": [0]}}])
def test_parameters_of_heatmaps_are_texts_and_numbers(value):
    document = json.loads(_metadata().to_json())
    given = {"rollout": {"head_fusion": "max", "discard_ratio": 0.5, "start_layer": 1}}
    assert Metadata.from_json(json.dumps({**document, "heatmaps": given})).heatmaps == given
    with pytest.raises(OnnxplainError, match="'heatmaps' must be"):
        Metadata.from_json(json.dumps({**document, "heatmaps": value}))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_json_cannot_say(number):
    """Wherever they stand: what the commands tell other programs has none."""
    text = json.dumps({**json.loads(_metadata().to_json()), "parity": {"more": "here"}}).replace('"here"', number)
    with pytest.raises(OnnxplainError, match="not an onnxplain artifact: metadata is not JSON"):
        Metadata.from_json(text)


def test_exporter_is_told_as_well():
    with pytest.raises(OnnxplainError, match=r"^metadata field 'heads' must be an integer from 1 to 10000, got 0$"):
        _metadata(heads=0)
    with pytest.raises(ValueError, match="JSON"):
        _metadata(parity={"error": float("nan")}).to_json()


def test_bounds_are_named():
    with pytest.raises(OnnxplainError, match=r"^preprocessing field 'std' must be three numbers from 0.001 to"):
        Preprocessing((32, 48), [0.5] * 3, [1e-40, 1, 1])
    with pytest.raises(OnnxplainError, match=r"^preprocessing field 'crop_pct' .* from 0.1 to 10, got 0.01$"):
        Preprocessing((32, 48), [0.5] * 3, [0.5] * 3, 0.01)
    message = r"^metadata field 'patch_grid' must be at most the size in pixels, 32 x 48, got 33 x 1$"
    with pytest.raises(OnnxplainError, match=message):
        _metadata(patch_grid=(33, 1))


def test_outputs_of_the_passes():
    metadata = _metadata()
    names = [item.output for item in metadata.outputs]
    assert (
        names[:2] == ["attention", "attention_gradient"] and "attention_min" in names and "attention_gradcam" in names
    )
    assert not any("relevance" in name or "pixel" in name for name in names)
    assert [item.output for item in _metadata(passes=["attention"]).outputs] == [
        "attention",
        "attention_mean",
        "attention_max",
        "attention_min",
    ]
    shapes = {item.output: metadata.shape(item) for item in OUTPUTS.values()}
    assert shapes["relevance"] == (2, 4, 7, 7) and shapes["gradient_relevance_positive"] == (2, 7, 7)
    assert shapes["pixel_gradient"] == (3, 32, 48) and shapes["reciprocam"] == (2, 3)
    assert shapes["layer_gradient_positive"] == (2, 7) and shapes["attention_gradcam"] == (7,)
    assert [item.flag for item in OUTPUTS.values()][:3] == ["with_attention", "with_gradient", "with_relevance"]
    assert all(item.flag == f"with_{name}" for name, item in (PASSES | REDUCTIONS).items())
    full = {name: metadata.full_shape(name, 3, 5) for name in ("logits", "class_index", "attention_mean", "reciprocam")}
    assert full == {"logits": (3, 2), "class_index": (3, 5), "attention_mean": (3, 2, 7, 7), "reciprocam": (3, 5, 2, 3)}


def test_rules_are_those_of_plain_lrp_unless_told():
    fields = {
        name: getattr(_metadata(), name) for name in ("model", "checkpoint", "preprocessing", "labels", "activation")
    }
    rest = {
        "patch_grid": (1, 1),
        "prefix_tokens": 1,
        "readout": (0,),
        "layers": 1,
        "heads": 1,
        "token_width": 8,
        "hidden_width": 32,
        "passes": ("attention",),
    }
    assert Metadata(**fields, **rest).rules == dict.fromkeys(RULES, 0.0) | {"alpha": 1.0}
