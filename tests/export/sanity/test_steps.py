"""Which parameters become random in which step, and how."""

import copy

import pytest
import torch

from onnxplain.export import load_backbone
from onnxplain.export.sanity.randomisation import random_models
from onnxplain.export.sanity.steps import randomise, steps_of
from onnxplain.lrp_graph import fuse
from tests.helpers.tiny_timm import load_tiny
from tests.helpers.transformers_models import CLASSIFIERS, save
from tests.reference import variants

TIMM = ("distilled", "registers_no_class", "parallel_things")
TRANSFORMERS = {
    "vit": "model.vit.layers.{}",
    "beit": "model.beit.layers.{}",
    "clip": "model.vision_model.encoder.layers.{}",
}
MODELS = [*TIMM, *TRANSFORMERS, "siglip"]
QUICK = ("vit", "distilled", "registers_no_class")


def _model(name, folder):
    """The model, its input size, and how it calls its two blocks."""
    if name in TIMM:
        return variants.build(name, torch.float32), (32, 32), "blocks.{}"
    if name == "siglip":  # with an attention pool and one position embedding, resized
        model = load_backbone("timm/vit_base_patch16_siglip_224", random_init=True, num_classes=3, image_size=64).model
        model.blocks = model.blocks[:2]
        return model, (64, 64), "blocks.{}"
    save(folder, name, *CLASSIFIERS[name])
    backbone = load_backbone(f"hf/{folder}")
    return backbone.model, backbone.preprocessing.size, TRANSFORMERS[name]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MODELS]
)
def test_steps_hold_every_parameter_once_from_the_head_down(name, tmp_path):
    model, size, block = _model(name, tmp_path)
    pixels = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    graph = fuse(model, pixels, ["gradient"])
    steps = steps_of(graph)
    assert [step.name for step in steps] == ["head", block.format(1), block.format(0), "embedding"]
    listed = [path for step in steps for path in step.parameters]
    model.requires_grad_()
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(model(pixels).sum(), list(parameters.values()), allow_unused=True)
    used = {path for path, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
    assert len(listed) == len(set(listed)) and set(listed) == used

    target = torch.tensor([[0]])
    before = graph.compute(pixels, target, ["attention", "logits"])
    layers = graph.layers // 2  # of a block
    for count, (step, random) in enumerate(random_models(model, steps, torch.Generator().manual_seed(0))):
        after = fuse(random, pixels, ["gradient"]).compute(pixels, target, ["attention", "logits"])
        assert not torch.allclose(after["logits"], before["logits"]), step
        same = [torch.equal(*pair) for pair in zip(after["attention"][0], before["attention"][0], strict=True)]
        expected = [graph.layers, layers, 0, 0][count]  # what lies before the block is as it was
        assert same[:expected] == [True] * expected and (count == 0 or not any(same[expected:])), step


def test_a_parameter_with_two_names_is_in_one_step():
    model = variants.build("plain", torch.float32)
    model.blocks[1].mlp = model.blocks[0].mlp  # used in two blocks
    steps = steps_of(fuse(model, torch.zeros(1, 3, 32, 32), ["gradient"]))
    listed = [path for step in steps for path in step.parameters]
    assert len(listed) == len(set(listed)) == len(list(model.parameters()))


def test_position_embeddings_that_are_resized_are_of_the_embedding(tmp_path):
    backbone = load_tiny(random_init=True, num_classes=3)
    save(tmp_path, "dinov2", *CLASSIFIERS["dinov2"])
    larger = load_backbone(f"hf/{tmp_path}", image_size=56)
    for model, size in ((backbone.model, (160, 160)), (larger.model, (56, 56))):
        steps = steps_of(fuse(model, torch.zeros(1, 3, *size), ["gradient"]))
        assert any("pos" in path for path in steps[-1].parameters) and steps[-1].name == "embedding"


def test_draws_have_the_mean_and_deviation_of_the_weights():
    model = variants.build("plain", torch.float32)
    trained = copy.deepcopy(model)
    paths = ("blocks.0.mlp.fc1.weight", "pos_embed")
    with torch.no_grad():
        for each in (model, trained):
            each.pos_embed += 3
    randomise(model, paths, torch.Generator().manual_seed(5))
    for path, tensor in model.named_parameters():
        before = trained.get_parameter(path)
        if path not in paths:
            assert torch.equal(tensor, before)
            continue
        assert abs(tensor.mean() - before.mean()) < 4 * before.std() / before.numel() ** 0.5
        assert tensor.std().item() == pytest.approx(before.std().item(), rel=0.1)
        correlation = torch.corrcoef(torch.stack([tensor.flatten(), before.flatten()]))[0, 1]
        assert abs(correlation) < 4 / before.numel() ** 0.5


def test_a_single_number_stays_and_seeds_decide():
    class Scale(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.weight = torch.nn.Parameter(torch.tensor([2.0])), torch.nn.Parameter(torch.arange(9.0))

    drawn = []
    for seed in (0, 0, 1):
        model = Scale()
        randomise(model, ("scale", "weight"), torch.Generator().manual_seed(seed))
        assert model.scale.item() == 2
        drawn.append(model.weight.detach())
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
