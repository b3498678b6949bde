"""torchvision/<name> and open_clip/<name>: weights as these libraries save them, against their own output."""

import json
import shutil
from dataclasses import replace
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import open_clip
import pytest
import torch
import torchvision
from torchvision.models import WeightsEnum
from torchvision.models.vision_transformer import VisionTransformer

from onnxplain.export import Head, load_backbone
from onnxplain.export.models import from_torchvision
from onnxplain.lrp_graph import fuse
from tests.helpers.messages import message_of
from tests.helpers.real_image import assert_agree, astronaut, ours, outputs, randomise

VIT = {"patch_size": 16, "num_layers": 2, "num_heads": 3, "hidden_dim": 48, "mlp_dim": 96}
CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 48, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1},
}


_message = partial(message_of, load_backbone, most=500)


# --- torchvision


@pytest.fixture
def vit(monkeypatch):
    """torchvision's vit_b_16, smaller."""

    def small(name, weights, num_classes, image_size=224):
        assert name == "vit_b_16" and weights is None
        return VisionTransformer(image_size=image_size, num_classes=num_classes, **VIT)

    monkeypatch.setattr(from_torchvision, "get_model", small)
    return partial(small, "vit_b_16", None)


WEIGHTS = torchvision.models.ViT_B_16_Weights


@pytest.mark.parametrize("tag", ["IMAGENET1K_V1", "IMAGENET1K_SWAG_E2E_V1"])
def test_torchvision_with_its_preprocessing(tag, vit, monkeypatch):
    """Published weights, of which one set is for 384 pixels; only the download is left out."""
    transform = WEIGHTS[tag].transforms()
    model = randomise(vit(1000, image_size=transform.crop_size[0]))
    monkeypatch.setattr(
        WEIGHTS, "get_state_dict", lambda self, **_: model.state_dict() if self is WEIGHTS[tag] else None
    )
    backbone = load_backbone(f"torchvision/vit_b_16.{tag}")
    assert_agree(ours(backbone), outputs(model, transform(astronaut()).unsqueeze(0)))
    assert backbone.labels == tuple(WEIGHTS[tag].meta["categories"])
    assert backbone.source == f"torchvision ViT_B_16_Weights.{tag}" and backbone.name == f"vit_b_16.{tag}"


def test_torchvision_checkpoint_of_other_classes_and_size(vit, tmp_path):
    """As its reference training saves it, and at another size as torchvision resizes position embeddings."""
    model = randomise(vit(5))
    torch.save({"model": {f"module.{key}": value for key, value in model.state_dict().items()}}, tmp_path / "x.pth")
    path = tmp_path / "x.pth"
    assert "it is for 5 classes: give that as `num_classes`" in _message("torchvision/vit_b_16", checkpoint=path)
    backbone = load_backbone("torchvision/vit_b_16", checkpoint=path, num_classes=5, labels=list("abcde"))
    transform = WEIGHTS.DEFAULT.transforms()
    assert_agree(ours(backbone), outputs(model, transform(astronaut()).unsqueeze(0)))
    assert backbone.labels == tuple("abcde") and len(backbone.sha256) == 64
    larger = vit(5, image_size=320)
    interpolate = torchvision.models.vision_transformer.interpolate_embeddings
    larger.load_state_dict(interpolate(320, 16, model.state_dict()))
    pixels = torch.randn(1, 3, 320, 320)
    backbone = load_backbone("torchvision/vit_b_16", checkpoint=path, num_classes=5, image_size=320)
    assert_agree(outputs(backbone.model, pixels), outputs(larger.eval(), pixels))


def test_torchvision_is_traced(vit):
    backbone = load_backbone("torchvision/vit_b_16", random_init=True)
    pixels = torch.randn(2, 3, 224, 224)
    graph = fuse(backbone.model, pixels[:1])
    assert graph.layers == 2 and graph.layout.patch_grid == (14, 14) and graph.layout.readout == (0,)
    with torch.no_grad():
        logits = graph.compute(pixels, torch.zeros(2, 1, dtype=torch.int64), ["logits"])["logits"]
    assert_agree(logits, outputs(backbone.model, pixels))


def test_torchvision_with_a_head(vit, tmp_path):
    model = randomise(vit(1000))
    torch.save(model.state_dict(), tmp_path / "x.pth")
    head = Head(torch.randn(2, 48))
    backbone = load_backbone("torchvision/vit_b_16", checkpoint=tmp_path / "x.pth", head=head)
    model.heads = torch.nn.Identity()
    assert_agree(ours(backbone), outputs(model, WEIGHTS.DEFAULT.transforms()(astronaut()).unsqueeze(0)) @ head.weight.T)
    message = _message("torchvision/vit_b_16", random_init=True, head=head, head_pooling="mean")
    assert "own features only: give `head_pooling='own'`" in message


def test_torchvision_mistakes(vit):
    assert "no model 'vit_b_17'; its Vision Transformers are vit_b_16" in _message("torchvision/vit_b_17")
    assert "no weights 'X' of vit_b_16; it has IMAGENET1K_V1" in _message("torchvision/vit_b_16.X")
    assert "square" in _message("torchvision/vit_b_16", random_init=True, image_size=(224, 320))
    assert "indivisible by patch size" in _message("torchvision/vit_b_16", random_init=True, image_size=225)
    assert "head of 1000 classes, not of 3" in _message("torchvision/vit_b_16", num_classes=3)


class Site(BaseHTTPRequestHandler):
    """Where torchvision's weights are: it sends a file, or half of it as if it were all."""

    content, half = b"", False

    def do_GET(self):
        content = self.content[: len(self.content) // 2] if self.half else self.content
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Nothing is logged."""


def test_trouble_with_torchvisions_download(vit, monkeypatch, tmp_path):
    """No network; half a file; and then the whole, of which nothing of the half is left in the way."""
    torch.save(randomise(vit(num_classes=1000)).state_dict(), tmp_path / "x.pth")
    content = (tmp_path / "x.pth").read_bytes()
    handler = type("Here", (Site,), {"content": content, "half": True})
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        url = f"http://127.0.0.1:{site.server_port}/x-{sha256(content).hexdigest()[:8]}.pth"
        here = WeightsEnum("Here", {"DEFAULT": replace(WEIGHTS.DEFAULT.value, url=url)})
        monkeypatch.setattr(from_torchvision, "get_model_weights", lambda name: here)
        Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        assert "of vit_b_16 (RuntimeError: invalid hash value" in _message("torchvision/vit_b_16")
        handler.half = False
        load_backbone("torchvision/vit_b_16")
        site.shutdown()
    shutil.rmtree(tmp_path / "hub")
    assert "cannot download the weights of vit_b_16 (URLError: " in _message("torchvision/vit_b_16")


def test_torchvisions_weights_run_nothing(monkeypatch, tmp_path):
    """Not even those that lie where the library keeps its downloads, whose checksum it does not look at again."""

    class Malicious:
        def __reduce__(self):
            return (tmp_path / "executed").mkdir, ()

    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save({"x": Malicious()}, tmp_path / "hub" / "checkpoints" / "x-01234567.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    here = WeightsEnum("Here", {"DEFAULT": replace(WEIGHTS.DEFAULT.value, url="http://127.0.0.1:9/x-01234567.pth")})
    monkeypatch.setattr(from_torchvision, "get_model_weights", lambda name: here)
    assert "the weights of vit_b_16 (UnpicklingError" in _message("torchvision/vit_b_16")
    assert not (tmp_path / "executed").exists()


# --- open_clip


@pytest.fixture
def clip(monkeypatch):
    """An architecture of open_clip, smaller than any it has."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", CLIP)
    return randomise(open_clip.create_model("tiny", load_weights=False))


def _theirs(model, size=None):
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(size=size or 64), is_train=False
    )
    with torch.no_grad():
        return model.encode_image(transform(astronaut()).unsqueeze(0))


@pytest.mark.parametrize("wrapper", ["bare", "training"])
def test_open_clip(wrapper, clip, tmp_path):
    """Both towers in one file, as its training saves them."""
    state = clip.state_dict()
    wrapped = {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}
    torch.save(state if wrapper == "bare" else wrapped, tmp_path / "x.pt")
    backbone = load_backbone("open_clip/tiny", checkpoint=tmp_path / "x.pt")
    assert_agree(ours(backbone), _theirs(clip))
    assert not backbone.has_classes and len(backbone.labels) == 24 and backbone.name == "tiny"


def test_open_clip_with_a_head_at_another_size(clip, tmp_path):
    torch.save(clip.state_dict(), tmp_path / "x.pt")
    head = Head(torch.randn(3, 24), labels=("a", "b", "c"))
    backbone = load_backbone("open_clip/tiny", checkpoint=tmp_path / "x.pt", head=head, image_size=96)
    larger = open_clip.create_model("tiny", load_weights=False, force_image_size=96).eval()
    open_clip.load_checkpoint(larger, str(tmp_path / "x.pt"))
    assert_agree(ours(backbone), _theirs(larger, 96) @ head.weight.T)
    assert backbone.labels == ("a", "b", "c") and backbone.preprocessing.size == (96, 96)


def test_open_clip_is_traced(clip):
    backbone = load_backbone("open_clip/tiny", random_init=True)
    pixels = torch.randn(2, 3, 64, 64)
    graph = fuse(backbone.model, pixels[:1], ())
    assert graph.layers == 2 and graph.layout.patch_grid == (4, 4) and graph.layout.readout == (0,)
    with torch.no_grad():
        assert_agree(graph(pixels, torch.zeros(2, 1, dtype=torch.int64))["logits"], outputs(backbone.model, pixels))


def test_open_clip_mistakes(clip, tmp_path):
    assert "no model 'ViT-B-17'" in _message("open_clip/ViT-B-17")
    assert "no weights 'x' of ViT-B-16; it has openai" in _message("open_clip/ViT-B-16/x")
    assert "no weights of tiny; give `checkpoint`" in _message("open_clip/tiny")
    assert "has no classes; give it a head" in _message("open_clip/tiny", random_init=True, num_classes=3)
    state = clip.state_dict()
    del state["visual.proj"]
    torch.save(state, tmp_path / "x.pt")
    assert "1 missing: proj" in _message("open_clip/tiny", checkpoint=tmp_path / "x.pt")


SAID = {
    "nothing": (None, ((0.5, 0.5, 0.5), "squash")),
    "no preprocessing": ({}, ((0.5, 0.5, 0.5), "squash")),
    "a mean": ({"mean": [0.1, 0.2, 0.3]}, ((0.1, 0.2, 0.3), "squash")),
    "a mode": ({"resize_mode": "shortest", "std": None}, ((0.5, 0.5, 0.5), "center")),
    "a mode that is none": ({"resize_mode": "x"}, "the preprocess_cfg in "),
    "a mode that pads": ({"resize_mode": "longest"}, "must have a resize_mode of shortest, squash, got 'longest'"),
    "a number": (3, "the preprocess_cfg in "),
}


@pytest.mark.parametrize("case", SAID)
def test_preprocessing_beside_a_checkpoint_of_open_clip(case, tmp_path, monkeypatch):
    """What its folder says counts, then what the published weights were trained with."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", CLIP)
    published = open_clip.pretrained._slpcfg(hf_hub="someone/tiny/")  # as those of SigLIP
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", {"webli": published})
    torch.save(open_clip.create_model("tiny", load_weights=False).state_dict(), tmp_path / "x.pt")
    said, expected = SAID[case]
    if said is not None:
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"preprocess_cfg": said}))
    if isinstance(expected, str):
        assert expected in _message("open_clip/tiny", checkpoint=tmp_path / "x.pt")
        return
    preprocessing = load_backbone("open_clip/tiny", checkpoint=tmp_path / "x.pt").preprocessing
    assert (preprocessing.mean, preprocessing.crop_mode) == expected
