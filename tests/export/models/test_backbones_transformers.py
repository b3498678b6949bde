"""hf/<folder>: models as transformers saves them, against transformers' own output and preprocessing."""

import json
import pickle
from functools import partial

import pytest
import torch
import transformers
from PIL import Image
from torch import nn

from onnxplain.export import Head, export_model, load_backbone
from onnxplain.export.verify.limits import EQUAL
from onnxplain.lrp_graph import fuse
from onnxplain.runtime.images.preprocessing import preprocess
from tests.helpers.messages import message_of
from tests.helpers.real_image import assert_agree, astronaut, ours, outputs
from tests.helpers.transformers_models import CLASSIFIERS, SIZE, SQUASHED, TOWERS, save


def _pixels(folder):
    """The picture after transformers' own preprocessing."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    return processor(astronaut(), return_tensors="pt")["pixel_values"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier(name, tmp_path):
    model = save(tmp_path, name, *CLASSIFIERS[name])
    backbone = load_backbone(f"hf/{tmp_path}")
    pixels = _pixels(tmp_path)
    mine = torch.from_numpy(preprocess(astronaut(), backbone.preprocessing)[0])
    torch.testing.assert_close(mine, pixels[0], rtol=0, atol=1e-6)
    assert_agree(ours(backbone), outputs(model, pixels).logits)
    assert backbone.labels == ("cat", "dog", "crane") and backbone.has_classes
    assert backbone.source == f"transformers {tmp_path}" and len(backbone.sha256) == 64


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier_is_traced(name, tmp_path):
    """Every model of transformers is the same to the engine, attention and all."""
    save(tmp_path, name, *CLASSIFIERS[name])
    backbone = load_backbone(f"hf/{tmp_path}")
    pixels = torch.randn(2, 3, SIZE, SIZE)
    graph = fuse(backbone.model, pixels[:1])
    with torch.no_grad():
        given = graph(pixels, torch.tensor([[0], [1]]))
    assert_agree(given["logits"], outputs(backbone.model, pixels))
    assert graph.layers == 2 and graph.layout.patch_grid == (3, 3)


@pytest.mark.parametrize("name", ["vit", "dinov2", "dinov3"])
def test_weights_without_a_head(name, tmp_path):
    model = save(tmp_path, name, *TOWERS[name])
    backbone = load_backbone(f"hf/{tmp_path}")
    assert_agree(ours(backbone), outputs(model, _pixels(tmp_path)).last_hidden_state[:, 0])
    assert not backbone.has_classes and backbone.labels[:2] == ("feature 0", "feature 1")


def test_masked_image_model(tmp_path):
    model = save(tmp_path, "vit", "ViTForMaskedImageModeling", SQUASHED)
    expected = outputs(model.vit, _pixels(tmp_path)).last_hidden_state[:, 0]
    assert_agree(ours(load_backbone(f"hf/{tmp_path}")), expected)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_the_image_half_of_models_that_have_two(name, tmp_path):
    model = save(tmp_path, name, *TOWERS[name])
    with torch.no_grad():
        expected = model.get_image_features(pixel_values=_pixels(tmp_path)).pooler_output
    assert_agree(ours(load_backbone(f"hf/{tmp_path}")), expected)


def test_features_of_mae_hide_nothing(tmp_path):
    """What transformers gives when told to hide no patch and to keep their order."""
    model = save(tmp_path, "mae", *TOWERS["mae"])
    model.config.mask_ratio = 0.0
    pixels = _pixels(tmp_path)
    with torch.no_grad():
        expected = model.vit(pixels, noise=torch.arange(9.0).unsqueeze(0)).last_hidden_state[:, 0]
    backbone = load_backbone(f"hf/{tmp_path}")
    assert_agree(ours(backbone), expected)
    assert_agree(ours(backbone), ours(backbone))


@pytest.mark.parametrize("name", ["vit", "dinov2", "clip", "siglip", "mae", "dinov3"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "cls+mean"])
def test_head_on_tokens(name, pooling, tmp_path):
    """Pooled after the last normalisation, class and register tokens left out of the mean."""
    model = save(tmp_path, name, *TOWERS[name])
    if name == "siglip" and "cls" in pooling:
        assert "no class token" in _message(f"hf/{tmp_path}", head=Head(torch.zeros(1, 32), pooling=pooling))
        return
    pixels = _pixels(tmp_path)
    vision = getattr(model, "vision_model", getattr(model, "vit", model))
    noise = {"noise": torch.arange(9.0).unsqueeze(0)} if name == "mae" else {}
    if name == "mae":
        model.config.mask_ratio = 0.0
    with torch.no_grad():
        tokens = vision(pixel_values=pixels, **noise).last_hidden_state
        tokens = vision.post_layernorm(tokens) if name == "clip" else tokens
    prefix = tokens.shape[1] - 9
    parts = [tokens[:, 0]] * ("cls" in pooling) + [tokens[:, prefix:].mean(1)] * ("mean" in pooling)
    features = torch.cat(parts, 1)
    head = Head(torch.randn(4, features.shape[1]), torch.randn(4), pooling=pooling)
    backbone = load_backbone(f"hf/{tmp_path}", head=head)
    assert_agree(ours(backbone), nn.functional.linear(features, head.weight, head.bias))


@pytest.mark.parametrize("name", ["vit", "deit", "dinov2", "dinov2-reg", "beit", "clip", "siglip"])
def test_another_image_size(name, tmp_path):
    """Position embeddings are resized as transformers does it."""
    model = save(tmp_path, name, *CLASSIFIERS[name])
    backbone = load_backbone(f"hf/{tmp_path}", image_size=(56, 28))
    pixels = torch.randn(1, 3, 56, 28)
    extra = {} if name.startswith("dinov2") else {"interpolate_pos_encoding": True}
    assert_agree(outputs(backbone.model, pixels), outputs(lambda given: model(given, **extra), pixels).logits)
    assert fuse(backbone.model, pixels, ()).layout.patch_grid == (4, 2)


@pytest.mark.parametrize("name", ["vit", "dinov2"])
def test_the_gate_agrees_at_another_image_size(name, tmp_path):
    """Where positions are interpolated with weights that float32 rounds."""
    save(tmp_path, name, *CLASSIFIERS[name])
    backbone = load_backbone(f"hf/{tmp_path}", image_size=(56, 70))
    report = export_model(backbone, tmp_path / "x.onnx", passes=["relevance"])
    assert max(row.value for row in report.rows if row.check == EQUAL) < 3e-8


@pytest.mark.parametrize("row", ["vit", "deit", "deit-distilled", "dinov2", "dinov2-reg", "beit"])
def test_row_of_the_table_from_a_folder(row, tmp_path):
    """--model vit --checkpoint FOLDER; and the file in it stands for the folder."""
    model = save(tmp_path, row, *CLASSIFIERS[row])
    for checkpoint in (tmp_path, tmp_path / "model.safetensors"):
        backbone = load_backbone(row, checkpoint=checkpoint)
        assert_agree(ours(backbone), outputs(model, _pixels(tmp_path)).logits)
        assert backbone.name == row and backbone.labels == ("cat", "dog", "crane")


@pytest.mark.parametrize("row", ["mae", "clip", "siglip", "dinov3"])
def test_row_without_classes_from_a_folder(row, tmp_path):
    save(tmp_path, row, *TOWERS[row])
    backbone = load_backbone(row, checkpoint=tmp_path)
    assert_agree(ours(backbone), ours(load_backbone(f"hf/{tmp_path}")))
    assert not backbone.has_classes


def test_pth_and_bin(tmp_path):
    """A state dict of the user's own for the architecture in the folder; and a folder with pytorch_model.bin."""
    model = save(tmp_path, "vit", *CLASSIFIERS["vit"])
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, tmp_path / "x.pth"
    )
    expected = outputs(model, _pixels(tmp_path)).logits
    assert_agree(ours(load_backbone(f"hf/{tmp_path}", checkpoint=tmp_path / "x.pth")), expected)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert_agree(ours(load_backbone(f"hf/{tmp_path}")), expected)


def test_random_weights_and_other_classes(tmp_path):
    save(tmp_path, "vit", *TOWERS["vit"])
    (tmp_path / "model.safetensors").unlink()
    first, second = (load_backbone(f"hf/{tmp_path}", random_init=True, num_classes=4) for _ in range(2))
    assert torch.equal(ours(first), ours(second)) and first.labels == ("0", "1", "2", "3") and first.source == "random"


_message = partial(message_of, load_backbone, most=500)


def test_malicious_weights_are_refused_unexecuted(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (tmp_path / "executed").mkdir, ()

    save(tmp_path, "vit", *CLASSIFIERS["vit"])
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Malicious(), protocol=2))
    assert "is not a checkpoint that can be read safely" in _message(f"hf/{tmp_path}")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("file", "own"),
    [
        ("config.json", {"auto_map": {"AutoConfig": "evil.Evil"}, "model_type": "evil"}),
        (
            "preprocessor_config.json",
            {"auto_map": {"AutoImageProcessor": "evil.Evil"}, "image_processor_type": "EvilImageProcessor"},
        ),
    ],
)
def test_code_that_comes_with_a_folder_is_not_run(file, own, tmp_path):
    save(tmp_path, "vit", *CLASSIFIERS["vit"])
    (tmp_path / "evil.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'executed')!r}).mkdir()\n")
    given = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**given, **own}))
    assert file in _message(f"hf/{tmp_path}")
    assert not (tmp_path / "executed").exists()


def test_what_does_not_fit(tmp_path):
    model = save(tmp_path, "vit", *CLASSIFIERS["vit"])
    assert f"a model of type vit, not dinov2; give `name='hf/{tmp_path}'`" in _message("dinov2", checkpoint=tmp_path)
    message = _message(f"hf/{tmp_path}", num_classes=7)
    assert "2 of wrong shape: classifier.bias [3] instead of [7]" in message and "3 classes" in message
    state = model.state_dict() | {"extra": torch.zeros(1)}
    del state["classifier.bias"]
    torch.save(state, tmp_path / "x.pth")
    message = _message(f"hf/{tmp_path}", checkpoint=tmp_path / "x.pth")
    assert "1 missing: classifier.bias" in message and "1 unexpected: extra" in message
    assert "multiple of" in _message(f"hf/{tmp_path}", image_size=43)
    for changed, expected in (
        ({"image_processor_type": "ConvNextImageProcessor"}, "is of a ConvNextImageProcessor; known are ViTImage"),
        ({"do_resize": False}, "must resize images and rescale them by 1/255"),
        ({"rescale_factor": 1.0}, "must resize images and rescale them by 1/255"),
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(SQUASHED | changed))
        assert expected in _message(f"hf/{tmp_path}")
    (tmp_path / "preprocessor_config.json").write_text("{")
    assert "transformers cannot read" in _message(f"hf/{tmp_path}")
    (tmp_path / "preprocessor_config.json").unlink()
    assert "no preprocessor_config.json; copy it" in _message(f"hf/{tmp_path}")
    assert "no checkpoint in the folder" in _message("timm/test_vit", checkpoint=tmp_path / "..")
    (tmp_path / "config.json").write_text('{"model_type": "nope"}')
    assert "transformers cannot read" in _message(f"hf/{tmp_path}")
    (tmp_path / "config.json").unlink()
    assert "no config.json with a model_type" in _message(f"hf/{tmp_path}")
    assert "needs a folder or a repository" in _message("hf/nothing/of/this")


def test_file_in_transformers_format_alone(tmp_path):
    """Without its config.json it cannot be read; the message says what is missing."""
    model = save(tmp_path, "vit", *CLASSIFIERS["vit"])
    torch.save(model.state_dict(), tmp_path / "x.pth")
    assert "in transformers' format: give the folder" in _message("timm/test_vit", checkpoint=tmp_path / "x.pth")


def test_wide_image(tmp_path):
    """Logits as transformers', where half a pixel is left over: resized to 48 x 65 and cropped to 42."""
    model = save(tmp_path, "dinov2", *CLASSIFIERS["dinov2"])
    backbone = load_backbone(f"hf/{tmp_path}")
    wide = astronaut().resize((650, 480), Image.Resampling.BICUBIC)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    expected = outputs(model, processor(wide, return_tensors="pt")["pixel_values"]).logits
    given = torch.from_numpy(preprocess(wide, backbone.preprocessing)[0]).unsqueeze(0)
    assert_agree(outputs(backbone.model, given), expected)
