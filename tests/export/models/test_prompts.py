"""Zero-shot heads: logits as the models' own libraries give them, of the loaded model and of the exported file."""

import json
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch
import transformers
from torch import nn
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.export import MODELS, load_backbone
from onnxplain.export.models.prompts import ZeroShot
from onnxplain.lrp_graph import fuse
from onnxplain.runtime import Explainer
from tests.helpers.hub_server import Hub, as_the_hub
from tests.helpers.real_image import assert_agree, astronaut, ours, outputs
from tests.helpers.text_models import (
    LENGTH,
    OPEN_CLIP,
    random_model,
    save_clip,
    save_open_clip,
    save_siglip,
    siglip_tokenizer,
)

SIGLIP = "timm/ViT-B-16-SigLIP"
PROMPTS = ["a cat", "a very large dog", "two crane"]
TEMPLATES = ["a photo of {}.", "{}", "this is {} the {}"]
SAVE = {"clip": save_clip, "siglip": save_siglip}
PADDING = {"clip": True, "siglip": "max_length"}
ACTIVATION = {"clip": "softmax", "siglip": "sigmoid"}


@pytest.fixture(scope="module", params=SAVE)
def saved(request, tmp_path_factory):
    """A row of the table, a folder, and the library's model that was saved there."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, SAVE[request.param](folder)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip_alone")
    save_clip(folder)
    return folder


def _tokens(name, folder, texts):
    return transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=PADDING[name], return_tensors="pt")


def _pixels(folder):
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    return processor(astronaut(), return_tensors="pt")["pixel_values"]


@torch.no_grad()
def _theirs(name, folder, model, texts):
    """The zero-shot logits of the picture, as transformers computes them."""
    return model(**_tokens(name, folder, texts), pixel_values=_pixels(folder)).logits_per_image


def test_transformers(saved):
    name, folder, model = saved
    expected = _theirs(name, folder, model, PROMPTS)
    for backbone in (
        load_backbone(name, checkpoint=folder, prompts=PROMPTS),
        load_backbone(f"hf/{folder}", prompts=PROMPTS),
        load_backbone(f"hf/{folder}", checkpoint=folder / "model.safetensors", prompts=PROMPTS),
    ):
        assert_agree(ours(backbone), expected)
        assert backbone.labels == tuple(PROMPTS) and backbone.activation == ACTIVATION[name] and backbone.has_classes
        assert len(backbone.sha256) == 64


def test_templates(saved):
    """For each class the direction of the mean of the directions of its sentences, one sentence at a time here."""
    name, folder, model = saved
    rows = []
    for prompt in PROMPTS:
        directions = []
        for sentence in (f"a photo of {prompt}.", prompt, f"this is {prompt} the {prompt}"):
            with torch.no_grad():
                features = model.get_text_features(**_tokens(name, folder, [sentence])).pooler_output[0].double()
            directions.append(features / features.square().sum().sqrt())
        mean = sum(directions) / 3
        rows.append(mean / mean.square().sum().sqrt())
    with torch.no_grad():
        image = model.get_image_features(pixel_values=_pixels(folder)).pooler_output[0].double()
    cosines = torch.stack(rows) @ image / image.square().sum().sqrt()
    expected = 30 * cosines if name == "clip" else 12 * cosines - 7
    backbone = load_backbone(name, checkpoint=folder, prompts=PROMPTS, templates=TEMPLATES)
    assert_agree(ours(backbone)[0].double(), expected)
    plain = ours(load_backbone(name, checkpoint=folder, prompts=PROMPTS))[0].double()
    assert (plain - expected).abs().max() > 1e-3 * expected.abs().max()
    assert backbone.labels == tuple(PROMPTS)


def test_more_texts_than_are_encoded_at_once(clip):
    stages = []
    words = [" ".join(f"{number:03}".translate(str.maketrans("0123456789", "abcdefghij"))) for number in range(70)]
    many = load_backbone("clip", checkpoint=clip, prompts=words, progress=stages.append)
    few = load_backbone("clip", checkpoint=clip, prompts=words[62:])
    assert_agree(ours(many)[:, 62:], ours(few))
    assert stages == ["encoding prompts, 0 of 70", "encoding prompts, 64 of 70"]


def test_other_labels_and_size(saved):
    name, folder, model = saved
    backbone = load_backbone(name, checkpoint=folder, prompts=PROMPTS, labels=["x", "y", "z"], image_size=70)
    pixels = torch.randn(2, 3, 70, 70)
    with torch.no_grad():
        expected = model(**_tokens(name, folder, PROMPTS), pixel_values=pixels, interpolate_pos_encoding=True)
    assert_agree(outputs(backbone.model, pixels), expected.logits_per_image)
    assert backbone.labels == ("x", "y", "z")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    (tmp_path / "hub").mkdir()
    with Hub(tmp_path / "hub") as hub:
        yield as_the_hub(hub, tmp_path / "cache", monkeypatch)


def test_from_the_hub(hub, clip):
    """A repository is asked for its tokenizer too."""
    (hub.folder / "some").mkdir()
    (hub.folder / "some/clip").symlink_to(clip)
    backbone = load_backbone("hf/some/clip", prompts=PROMPTS)
    assert_agree(ours(backbone), ours(load_backbone(f"hf/{clip}", prompts=PROMPTS)))
    asked = {path.rpartition("/")[2] for _, path in hub.asked}
    assert {"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "spiece.model"} <= asked


# --- open_clip


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """(folder with a checkpoint of both towers, open_clip's model), smaller than any it has."""
    return tmp_path, save_open_clip(monkeypatch, tmp_path)


def _theirs_of_open_clip(model, tokenizer):
    preprocess = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(size=64), is_train=False)
    with torch.no_grad():
        picture = model.encode_image(preprocess(astronaut()).unsqueeze(0), normalize=True)
        return picture @ model.encode_text(tokenizer(PROMPTS), normalize=True).T * model.logit_scale.exp()


def test_open_clip(tiny, monkeypatch):
    folder, model = tiny
    expected = _theirs_of_open_clip(model, open_clip.get_tokenizer("tiny"))
    monkeypatch.setitem(MODELS, "clip", replace(MODELS["clip"], open_clip="tiny"))
    for name in ("open_clip/tiny", "clip"):
        backbone = load_backbone(name, checkpoint=folder / "x.pt", prompts=PROMPTS)
        assert_agree(ours(backbone), expected)
        assert backbone.labels == tuple(PROMPTS) and backbone.activation == "softmax" and backbone.source == "x.pt"
    first, second = (load_backbone("open_clip/tiny", random_init=True, prompts=PROMPTS) for _ in range(2))
    assert torch.equal(ours(first), ours(second)) and ours(first).shape == (1, 3)


@pytest.mark.parametrize("beside", [False, True])
def test_open_clip_with_a_bias_and_a_tokenizer_of_transformers(beside, monkeypatch, tmp_path):
    """As its SigLIP; the tokenizer is found where the configuration says, and beside the checkpoint."""
    place = tmp_path / ("x" if beside else "tokenizer")
    siglip_tokenizer().save_pretrained(place)
    given = {"hf_tokenizer_name": "nowhere/nothing" if beside else str(place), "no_causal_mask": True}
    config = {**OPEN_CLIP, "init_logit_bias": -10, "custom_text": True}
    config["text_cfg"] = {**OPEN_CLIP["text_cfg"], **given, "vocab_size": 16, "pool_type": "last"}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
    model = random_model(open_clip.create_model("tiny", load_weights=False), 12, -7)
    (tmp_path / "x").mkdir(exist_ok=True)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "x" / "open_clip_model.safetensors")
    if beside:
        (place / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    backbone = load_backbone("open_clip/tiny", checkpoint=tmp_path / "x", prompts=PROMPTS)
    expected = _theirs_of_open_clip(model, open_clip.tokenizer.HFTokenizer(str(place), LENGTH)) - 7
    assert_agree(ours(backbone), expected)
    assert backbone.activation == "sigmoid"


def test_coca(monkeypatch, tmp_path):
    """Whose image tower gives its tokens as well, and whose embeddings come normalised."""
    parts = {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    config = {
        **OPEN_CLIP,
        "custom_text": True,
        "vision_cfg": {**OPEN_CLIP["vision_cfg"], **parts},
        "text_cfg": {**OPEN_CLIP["text_cfg"], "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**OPEN_CLIP["text_cfg"], "attn_pooler_heads": 2},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "coca_tiny", config)
    model = random_model(open_clip.create_model("coca_tiny", load_weights=False), 30)
    torch.save(model.state_dict(), tmp_path / "x.pt")
    backbone = load_backbone("open_clip/coca_tiny", checkpoint=tmp_path / "x.pt", prompts=PROMPTS)
    assert_agree(ours(backbone), _theirs_of_open_clip(model, open_clip.get_tokenizer("coca_tiny")))


def test_a_row_takes_both_towers_from_one_place(tiny, hub, monkeypatch):
    """What is downloaded for --model NAME --prompts is one set of weights that open_clip knows."""
    asked = []

    def create(architecture, pretrained, **options):
        asked.append((architecture, pretrained))
        return tiny[1]

    for repository in ("timm/vit_base_patch16_clip_224.openai", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", SIGLIP):
        (hub.folder / repository).mkdir(parents=True)
        for file in ("open_clip_config.json", "tokenizer.json", "open_clip_model.safetensors"):
            (hub.folder / repository / file).write_text("{}")

    rows = [row for row in MODELS.values() if row.open_clip]
    assert [row.name for row in rows] == ["clip", "clip-laion", "siglip"]
    monkeypatch.setattr(open_clip, "create_model", create)
    own = open_clip.tokenizer.SimpleTokenizer(context_length=LENGTH)
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda name, **_: own)
    for row in rows:
        architecture, tag = row.open_clip.split("/")
        assert tag in open_clip.list_pretrained_tags_by_model(architecture)
        backbone = load_backbone(row.name, prompts=PROMPTS)
        weights = open_clip.get_pretrained_cfg(architecture, tag)["hf_hub"] + "open_clip_model.safetensors"
        assert weights in hub.downloads()
        (made, file), hub.asked = asked.pop(), []
        assert made == architecture and weights.replace("/", "--", 1).rpartition("/")[0] in file and not asked
        assert backbone.source == f"open_clip {row.open_clip}" and backbone.name == row.name


# --- explained


def test_the_norm_in_every_pass(saved):
    """The gradient is autograd's of the library's model; relevance is as if the norm of the picture were a constant."""
    name, folder, model = saved
    backbone = load_backbone(name, checkpoint=folder, prompts=PROMPTS)
    pixels, target = _pixels(folder).double(), torch.tensor([[0, 2]])
    graph = fuse(backbone.model.double(), pixels)
    assert graph.left_out == {}
    found = graph(pixels, target)

    leaf = pixels.clone().requires_grad_()
    logits = model.double()(**_tokens(name, folder, PROMPTS), pixel_values=leaf).logits_per_image
    for column in range(2):
        (expected,) = torch.autograd.grad(logits[0, target[0, column]], leaf, retain_graph=True)
        _assert_close(found["pixel_gradient"][0, column], expected[0], 1e-4)
    model.float()

    with torch.no_grad():
        length = backbone.model.features(pixels).square().mean().add(1e-24).sqrt()
    head = nn.Linear(*reversed(backbone.model.head.weight.shape), bias=name == "siglip").double()
    state = {**backbone.model.head.state_dict(), "weight": backbone.model.head.weight.detach() / length}
    head.load_state_dict(state)
    frozen = fuse(nn.Sequential(backbone.model.features, head), pixels)(pixels, target)
    for output in ("logits", "relevance", "pixel_relevance", "pixel_attnlrp", "pixel_cp_lrp"):
        _assert_close(found[output], frozen[output], 1e-6)
    difference = (found["pixel_gradient"] - frozen["pixel_gradient"]).abs().max()
    assert difference > 1e-3 * found["pixel_gradient"].abs().max()


def _assert_close(given, expected, tolerance):
    assert given.shape == expected.shape and given.abs().max() > 0
    assert (given - expected).abs().max() <= tolerance * expected.abs().max()


def test_an_embedding_of_zeros_has_no_class():
    model = ZeroShot(nn.Flatten(), torch.eye(3), 10.0, -2.0)
    assert torch.equal(model(torch.zeros(2, 3)), torch.full((2, 3), -2.0))
    torch.testing.assert_close(model(torch.tensor([[1e-9, 0, 0]])), torch.tensor([[8.0, -2, -2]]))


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_export_and_explain(saved, tmp_path, monkeypatch):
    """The literal command line; the file's logits, probabilities and map."""
    monkeypatch.chdir(tmp_path)
    name, folder, model = saved
    picture = tmp_path / "astronaut.png"
    astronaut().save(picture)
    done = run(
        *("export", "--model", name, "--checkpoint", folder, "--passes", "gradient,relevance"),
        *("--prompts", "a cat", "a very large dog", "two crane", "--output", "x.onnx"),
    )
    assert done.exit_code == 0, done.stderr
    explainer = Explainer("x.onnx")
    expected = _theirs(name, folder, model, PROMPTS)
    assert_agree(torch.from_numpy(explainer.tensors(picture, target=[0])["logits"]), expected)
    result = explainer.explain(picture, target="a very large dog")
    probabilities = expected[0].softmax(0) if name == "clip" else expected[0].sigmoid()
    given = {label: probability for _, label, probability in result.predictions}
    np.testing.assert_allclose([given[prompt] for prompt in PROMPTS], probabilities, rtol=1e-4)
    assert result.heatmap.shape == (512, 512) and np.ptp(result.heatmap) > 0
    other = explainer.explain(picture, target="a cat").heatmap
    assert np.abs(result.heatmap - other).max() > 1e-2 * other.max()
    assert run("explain", "x.onnx", picture, "--target", "a cat").exit_code == 0
    assert (tmp_path / f"explanations/astronaut.png.x.{result.method}.a-cat.png").is_file()
