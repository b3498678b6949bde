"""Artifacts that take images as they are, against those that take pixels, through the Explainer."""

import functools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import skimage.data
from PIL import Image

from onnxplain.contract.outputs import HEATMAP
from onnxplain.export import GateError, export_model, load_backbone
from onnxplain.export.formats.onnx_file import save_onnx, take_image_input
from onnxplain.export.verify import image_samples
from onnxplain.runtime import METADATA_KEY, METHODS, Explainer, Metadata, OnnxplainError, load_image
from tests.helpers.export_cases import LABELS, build, preprocessing
from tests.helpers.messages import message_of

METHODS_OF = {
    "registers": ["rollout", "legrad", "input_x_gradient", "vit_reciprocam"],
    "mean_pool_non_square": ["grad_rollout", "attnlrp"],
}
PHOTOS = [skimage.data.coffee(), skimage.data.rocket()[:, 200:330], skimage.data.chelsea()[:40, :52]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A plain artifact as export writes it, once; and its report."""
    folder = tmp_path_factory.mktemp("exported")

    @functools.cache
    def export(name, flags="none", kind="pixels"):
        model, path = build(name), folder / f"{name}-{flags}-{kind}.onnx"
        options = {"labels": LABELS, "preprocessing": preprocessing(model), "heatmaps": METHODS_OF[name]}
        return path, export_model(model, path, flags=flags, input=kind, **options)

    return export


@pytest.fixture(scope="module")
def cases(exported, tmp_path_factory):
    """Explainers of an artifact that takes pixels, and of one that takes images, made of it without another export."""
    folder = tmp_path_factory.mktemp("cases")

    @functools.cache
    def case(name, crop_mode="center", flags="none"):
        model = ir.load(exported(name, flags)[0])
        metadata = Metadata.from_json(model.metadata_props[METADATA_KEY])
        metadata = replace(metadata, preprocessing=replace(metadata.preprocessing, crop_mode=crop_mode))
        explainers = {}
        for kind in ("pixels", "image"):
            if kind == "image":
                relative = {HEATMAP + name: METHODS[name].relative for name in METHODS_OF[name]}
                take_image_input(model, metadata.preprocessing, relative)
            path = folder / f"{name}-{crop_mode}-{flags}-{kind}.onnx"
            save_onnx(model, replace(metadata, input=kind).to_json(), path)
            explainers[kind] = Explainer(path, "cpu")
        return SimpleNamespace(**explainers, path=path)

    return case


def _assert_close(given, expected, limit=1e-5):
    assert given.shape == expected.shape and given.dtype == expected.dtype
    assert np.abs(given - expected).max() <= limit * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "crop_mode"), [("registers", "center"), ("registers", "squash"), ("mean_pool_non_square", "center")]
)
def test_equal_to_pixels(name, crop_mode, cases):
    """Logits and maps; what is recovered of the map over the input, for images that have enough pixels to tell."""
    case = cases(name, crop_mode)
    for photo in PHOTOS:
        given, expected = case.image.explain_all(photo, [1, -1]), case.pixels.explain_all(photo, [1, -1])
        assert set(given) == set(METHODS_OF[name])
        for method in given:
            for one, other in zip(given[method], expected[method], strict=True):
                assert (one.target, one.placement, one.method) == (other.target, other.placement, other.method)
                assert one.score == pytest.approx(other.score, rel=1e-5)
                assert one.heatmap is one.placed and one.heatmap.shape == photo.shape[:2]
                _assert_close(one.heatmap, other.heatmap)
                if min(photo.shape[:2]) > 2 * max(one.input_heatmap.shape) or not one.pixel_level:
                    _assert_close(one.tokens, other.tokens)
                    _assert_close(one.input_heatmap, other.input_heatmap)
                    assert one.peak() == other.peak()
                difference = np.asarray(one.overlay(), int) - np.asarray(other.overlay(), int)
                if not one.pixel_level:
                    assert np.abs(difference).max() <= 2


def test_padded_input(cases):
    """The map is that of pixels; of the input's map what the padding hides is continued from what it does not."""
    case = cases("registers", "border")
    for photo in PHOTOS:
        given, expected = (explainer.explain(photo, 1, "legrad") for explainer in (case.image, case.pixels))
        _assert_close(given.heatmap, expected.heatmap)
        shown = given.placement.shown
        _assert_close(given.placement.place(given.input_heatmap), given.heatmap)
        low, high = given.input_heatmap[shown].min(), given.input_heatmap[shown].max()
        slack = 0.2 * (high - low)
        assert low - slack <= given.input_heatmap.min() and given.input_heatmap.max() <= high + slack
        assert given.overlay().size == photo.shape[1::-1]


@pytest.mark.slow
def test_flags(cases):
    case = cases("registers", flags="required")
    for method in METHODS_OF["registers"]:
        explanations = [explainer.explain(PHOTOS[0], -1, method) for explainer in (case.image, case.pixels)]
        _assert_close(*[one.heatmap for one in explanations])
        tensors = case.image.tensors(PHOTOS[2], [0, 1, 2], [HEATMAP + method])
        assert tensors[HEATMAP + method].shape == (1, 3, *PHOTOS[2].shape[:2])


def test_many_images_of_several_sizes(cases):
    """In the order given, an error in its place, images of one size in one run."""
    explainer = cases("registers").image
    images = [PHOTOS[0], PHOTOS[2], PHOTOS[2][::-1].copy(), b"no image", PHOTOS[2], PHOTOS[1]]
    sizes = []
    run = explainer._artifact.run
    explainer._artifact.run = lambda given, *rest: sizes.append(given.shape) or run(given, *rest)
    try:
        outcomes = list(explainer.explain_many(images, 1, "legrad", batch_size=6).outcomes())
    finally:
        explainer._artifact.run = run
    assert [len(shape) for shape in sizes] == [4] * 3 and [shape[0] for shape in sizes] == [1, 3, 1]
    assert [outcome.error is None for outcome in outcomes] == [True, True, True, False, True, True]
    for image, outcome in zip(images, outcomes, strict=True):
        if outcome.error is None:
            _assert_close(outcome.value.heatmap, explainer.explain(image, 1, "legrad").heatmap)


def test_the_graph(cases):
    """Inputs and outputs as documented, no `If` without flags, and onnxruntime alone gives the same."""
    case = cases("registers")
    model = onnx.load(case.path)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    assert not any(node.op_type == "If" for node in model.graph.node)
    names = [value.name for node in model.graph.node for value in [node] if value.name]
    assert len(names) == len(set(names))
    weights = {item.name for item in model.graph.initializer}
    assert "blocks.0.attn.qkv.weight" in weights or "blocks.0.attn.qkv.weight.T" in weights
    session = onnxruntime.InferenceSession(case.path, providers=["CPUExecutionProvider"])
    assert {item.name: item.shape for item in session.get_inputs()} == {
        "image": ["batch", "height", "width", 3],
        "target": ["batch", "targets"],
    }
    shapes = {item.name: item.shape for item in session.get_outputs()}
    assert all(shapes[HEATMAP + name] == ["batch", "targets", "height", "width"] for name in METHODS_OF["registers"])
    image = np.asarray(load_image(PHOTOS[1]))
    (heatmap,) = session.run([HEATMAP + "rollout"], {"image": image[None], "target": [[2]]})
    np.testing.assert_array_equal(heatmap[0, 0], case.image.explain(PHOTOS[1], 2, "rollout").heatmap)


@pytest.mark.slow
def test_exported_with_images(exported, cases):
    """As `input="image"` writes it, which has compared it on images."""
    (path, report), (_, before) = exported("registers", kind="image"), exported("registers")
    rows = [row for row in report.rows if row not in before.rows]
    assert {row.output for row in rows} >= {"image", "logits", *(HEATMAP + name for name in METHODS_OF["registers"])}
    assert next(row.value for row in rows if row.check == image_samples.DIFFERENT) == 0
    explainer = Explainer(path, "cpu")
    assert explainer.metadata.input == "image"
    assert explainer.metadata.parity == report.to_dict()
    given, expected = (each.explain(PHOTOS[0], 1, "legrad") for each in (explainer, cases("registers").image))
    np.testing.assert_array_equal(given.heatmap, expected.heatmap)


@pytest.mark.parametrize(
    "wrong",
    [
        {"interpolation": "bilinear"},
        {"crop_pct": 0.9},
        {"crop_mode": "squash"},
        {"mean": (0.5, 0.4, 0.31)},
    ],
)
def test_the_gate_finds_other_preprocessing(wrong, exported, tmp_path):
    """A file that prepares images in another way than its metadata say."""
    model = ir.load(exported("registers")[0])
    metadata = Metadata.from_json(model.metadata_props[METADATA_KEY])
    samples = image_samples.ImageSamples(exported("registers")[0], metadata)
    relative = {HEATMAP + name: METHODS[name].relative for name in METHODS_OF["registers"]}
    prepared = take_image_input(model, replace(metadata.preprocessing, **wrong), relative)
    save_onnx(model, replace(metadata, input="image").to_json(), tmp_path / "a.onnx")
    assert not all(row.passed for row in samples.compare(tmp_path / "a.onnx", prepared))


def test_the_gate_finds_maps_in_another_place(exported, tmp_path):
    """One that has 0 instead of its minimum outside of what the model saw."""
    model = ir.load(exported("registers")[0])
    metadata = Metadata.from_json(model.metadata_props[METADATA_KEY])
    samples = image_samples.ImageSamples(exported("registers")[0], metadata)
    prepared = take_image_input(model, metadata.preprocessing, {HEATMAP + name: False for name in metadata.heatmaps})
    save_onnx(model, replace(metadata, input="image").to_json(), tmp_path / "a.onnx")
    failed = {row.output for row in samples.compare(tmp_path / "a.onnx", prepared) if not row.passed}
    assert failed == {"heatmap_vit_reciprocam"}


def test_a_file_that_fails_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(image_samples, "PLACED", -1.0)
    model = build("registers")
    given = {"labels": LABELS, "preprocessing": preprocessing(model), "heatmaps": ["rollout"], "input": "image"}
    with pytest.raises(GateError, match="on images"):
        export_model(model, tmp_path / "a.onnx", **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input": "image"}, ["heatmaps"]),
        ({"input": "images", "heatmaps": ["rollout"]}, ["input", "image", "pixels"]),
    ],
)
def test_wrong_arguments(options, words, tmp_path):
    model = build("registers")
    given = {"labels": LABELS, "preprocessing": preprocessing(model), **options}
    message = message_of(export_model, model, tmp_path / "a.onnx", **given)
    assert all(word in message for word in words)


def test_pixels_are_refused(cases):
    with pytest.raises(OnnxplainError, match="takes an image"):
        cases("registers").image.explain_pixels(np.zeros((1, 3, 32, 32), np.float32))


@pytest.mark.slow
def test_the_demo_model(tmp_path):
    model = load_backbone("demo")
    names = ["legrad", "rollout", "attnlrp", "vit_reciprocam"]
    explainers = []
    for kind in ("pixels", "image"):
        path = tmp_path / f"{kind}.onnx"
        assert export_model(model, path, heatmaps=names, input=kind).passed
        explainers.append(Explainer(path, "cpu"))
    image = Image.fromarray(skimage.data.astronaut()).resize((300, 207))
    expected, given = (explainer.explain_all(image, [-1, 3]) for explainer in explainers)
    for name in names:
        for one, other in zip(given[name], expected[name], strict=True):
            _assert_close(one.heatmap, other.heatmap)
