"""Weights that are no numbers, or numbers of another kind, are refused by name, whichever way they come."""

import pytest
import safetensors.torch
import timm
import torch
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

from onnxplain.export import artifact, export_model, load_backbone, load_features, read_head
from onnxplain.export.models import from_torchvision
from onnxplain.export.models.checkpoints import load_weights
from tests.helpers.messages import message_of
from tests.helpers.real_image import outputs, randomise
from tests.helpers.text_models import save_clip, save_open_clip
from tests.helpers.transformers_models import CLASSIFIERS, save

ALLOWED = "weights must be dense tensors of float16, bfloat16, float32, float64"
NAN = "NaN or infinity in 1 weights"
MOMENTS = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


def _timm(folder, monkeypatch):
    torch.save(randomise(timm.create_model("test_vit")).state_dict(), folder / "x.pth")
    return "timm/test_vit", {"checkpoint": folder / "x.pth"}, folder / "x.pth", "blocks.1.mlp.fc1.weight"


def _transformers(folder, monkeypatch):
    save(folder, "vit", *CLASSIFIERS["vit"])
    return f"hf/{folder}", {}, folder / "model.safetensors", "classifier.weight"


def _transformers_file(folder, monkeypatch):
    torch.save(save(folder, "vit", *CLASSIFIERS["vit"]).state_dict(), folder / "x.pth")
    return f"hf/{folder}", {"checkpoint": folder / "x.pth"}, folder / "x.pth", "vit.embeddings.cls_token"


def _torchvision(folder, monkeypatch):
    small = {"patch_size": 16, "num_layers": 1, "num_heads": 3, "hidden_dim": 48, "mlp_dim": 96}
    monkeypatch.setattr(
        from_torchvision, "get_model", lambda name, weights, num_classes, image_size=224: VisionTransformer(
            image_size=image_size, num_classes=num_classes, **small
        )
    )  # fmt: skip
    torch.save(randomise(from_torchvision.get_model("", None, 1000)).state_dict(), folder / "x.pth")
    return "torchvision/vit_b_16", {"checkpoint": folder / "x.pth"}, folder / "x.pth", "encoder.pos_embedding"


def _open_clip(folder, monkeypatch):
    save_open_clip(monkeypatch, folder)
    return "open_clip/tiny", {"checkpoint": folder / "x.pt"}, folder / "x.pt", "visual.proj"


WAYS = (_timm, _transformers, _transformers_file, _torchvision, _open_clip)


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__.strip("_"))
def given(request, tmp_path, monkeypatch):
    """What to call load_backbone with, the key of a weight, and what changes that weight in the file."""
    name, options, path, key = request.param(tmp_path, monkeypatch)

    def change(function):
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
            safetensors.torch.save_file(state | {key: function(state[key])}, path)
            return
        held = torch.load(path)
        state = held.get("state_dict", held)
        known = next(name for name in state if name.endswith(key))
        state[known] = function(state[known])
        torch.save(held, path)

    return name, options, key.removeprefix("visual."), change


@pytest.mark.parametrize("dtype", ["int8", "int64", "bool", "complex64", "float8_e4m3fn"])
def test_stored_as_what_is_no_float(dtype, given):
    name, options, key, change = given
    change(lambda tensor: tensor.to(getattr(torch, dtype)))
    message = message_of(load_backbone, name, **options)
    assert f"{ALLOWED}: " in message and f"{key} is {dtype}; save" in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_converted(dtype, given):
    name, options, _, change = given
    pixels = torch.randn(1, 3, *load_backbone(name, **options).preprocessing.size)
    change(lambda tensor: tensor.bfloat16().float())
    expected = outputs(load_backbone(name, **options).model, pixels)
    change(lambda tensor: tensor.to(dtype))
    given = outputs(load_backbone(name, **options).model, pixels)
    assert given.dtype == torch.float32
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-2 if dtype == torch.float16 else 0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_no_number(value, given, tmp_path, monkeypatch):
    """Named before anything is traced, of which nothing else would come than a comparison that fails."""
    monkeypatch.setattr(artifact, "fuse", lambda *_, **__: pytest.fail("traced"))
    name, options, key, change = given
    change(lambda tensor: torch.where(torch.arange(tensor.numel()).reshape(tensor.shape) == 3, value, tensor))
    message = message_of(export_model, load_backbone(name, **options), tmp_path / "made" / "x.onnx")
    assert f"{NAN}: " in message and f"{key}; the file is damaged" in message
    assert not (tmp_path / "made").exists()


UNUSUAL = {
    "sparse": lambda tensor: tensor.to_sparse(),
    "quantized": lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
    "without values, on the device meta": lambda tensor: tensor.to("meta"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", UNUSUAL)
def test_no_plain_tensor(what, tmp_path):
    model = nn.Linear(3, 2)
    torch.save({**model.state_dict(), "weight": UNUSUAL[what](model.weight.detach())}, tmp_path / "x.pth")
    expected = f"{tmp_path / 'x.pth'}: {ALLOWED}: weight is {what}; save them as such"
    assert message_of(load_weights, model, tmp_path / "x.pth") == expected


class _Counting(nn.Module):
    """With buffers that are no weights: of integers, of booleans, and a mask of infinities."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("relative_position_index", torch.arange(4))
        self.register_buffer("seen", torch.tensor([True, False]))
        self.register_buffer("mask", torch.tensor([0, -torch.inf]))


def test_integers_where_the_model_has_them(tmp_path):
    stored, model = _Counting(), _Counting()
    stored.norm.num_batches_tracked.fill_(7)
    torch.save(stored.state_dict(), tmp_path / "x.pth")
    load_weights(model, tmp_path / "x.pth")
    assert model.norm.num_batches_tracked == 7 and model.norm.num_batches_tracked.dtype == torch.int64
    torch.save({**stored.state_dict(), "norm.running_mean": torch.ones(2, dtype=torch.int64)}, tmp_path / "x.pth")
    assert "norm.running_mean is int64" in message_of(load_weights, model, tmp_path / "x.pth")


def test_indices_that_transformers_no_longer_keeps(tmp_path):
    """Older files of CLIP hold the positions' indices, which today's models make themselves."""
    save(tmp_path, "clip", *CLASSIFIERS["clip"])
    before = load_backbone(f"hf/{tmp_path}")
    state = safetensors.torch.load_file(tmp_path / "model.safetensors")
    state["vision_model.embeddings.position_ids"] = torch.arange(10).unsqueeze(0)
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    pixels = torch.randn(1, 3, *before.preprocessing.size)
    assert torch.equal(outputs(load_backbone(f"hf/{tmp_path}").model, pixels), outputs(before.model, pixels))


def test_text_encoder(tmp_path, monkeypatch):
    """Whose weights are not in the artifact, but make its classes."""
    save_open_clip(monkeypatch, tmp_path)
    held = torch.load(tmp_path / "x.pt")
    held["state_dict"]["module.token_embedding.weight"][5] = torch.nan
    torch.save(held, tmp_path / "x.pt")
    prompts = {"prompts": ["a cat", "a dog"]}
    message = message_of(load_backbone, "open_clip/tiny", checkpoint=tmp_path / "x.pt", **prompts)
    assert f"{NAN}: token_embedding.weight; " in message
    save_clip(tmp_path / "clip")
    state = safetensors.torch.load_file(tmp_path / "clip" / "model.safetensors")
    state["text_projection.weight"][0, 0] = torch.inf
    safetensors.torch.save_file(state, tmp_path / "clip" / "model.safetensors")
    assert f"{NAN}: text_projection.weight; " in message_of(load_backbone, f"hf/{tmp_path / 'clip'}", **prompts)


@pytest.mark.parametrize("dtype", ["int8", "complex64", "bool"])
def test_head(dtype, tmp_path):
    torch.save({"weight": torch.ones(3, 4).to(getattr(torch, dtype))}, tmp_path / "head.pth")
    assert "weight must hold finite floating-point numbers" in message_of(read_head, tmp_path / "head.pth")


def test_features(tmp_path, monkeypatch):
    """Which the command probe takes."""
    name, options, path, key = _timm(tmp_path, monkeypatch)
    state = torch.load(path)
    state[key][0, 0] = torch.nan
    torch.save(state, path)
    assert f"{name} (x.pth): {NAN}: {key}; " in message_of(load_features, name, **options)


class _Tagged(torch.Tensor):
    """What a library that quantizes puts in a weight's place."""


IN_MEMORY = {
    "complex": (lambda tensor: tensor.to(torch.complex64), f"{ALLOWED}: head.weight is complex64"),
    "int8": (lambda tensor: tensor.to(torch.int8), f"{ALLOWED}: head.weight is int8"),
    "float8": (lambda tensor: tensor.to(torch.float8_e5m2), f"{ALLOWED}: head.weight is float8_e5m2"),
    "meta": (lambda tensor: tensor.to("meta"), "head.weight is without values, on the device meta"),
    "sparse": (lambda tensor: tensor.to_sparse(), "head.weight is sparse"),
    "subclass": (lambda tensor: tensor.as_subclass(_Tagged), "head.weight is a _Tagged"),
    "nan": (lambda tensor: tensor * torch.nan, f"{NAN}: head.weight; "),
}


@pytest.mark.parametrize("case", IN_MEMORY)
def test_model_in_memory(case, tmp_path):
    model = timm.create_model("test_vit")
    function, expected = IN_MEMORY[case]
    model.head.weight = nn.Parameter(function(model.head.weight.detach()), requires_grad=False)
    message = message_of(export_model, model, tmp_path / "x.onnx", preprocessing={"size": (160, 160), **MOMENTS})
    assert message.startswith("VisionTransformer: ") and expected in message and not (tmp_path / "x.onnx").exists()


def test_buffers_may_be_masks(tmp_path):
    """Infinity in one is no damage; NaN is. What comes after is that this is no Vision Transformer."""
    model = _Counting()
    options = {"preprocessing": {"size": (8, 8), **MOMENTS}}
    assert "the model fails on a float32 image" in message_of(export_model, model, tmp_path / "x.onnx", **options)
    model.mask[0] = torch.nan
    assert f"{NAN}: mask; " in message_of(export_model, model, tmp_path / "x.onnx", **options)
