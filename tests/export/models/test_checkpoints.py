"""Weights from files, folders and hubs, and what a broken file is answered with."""

import hashlib
import os
import pickle
import warnings
from contextlib import suppress

import pytest
import safetensors.torch
import timm
import torch
from torch import nn
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.export import CheckpointWarning
from onnxplain.export.models.checkpoints import WEIGHTS, load_weights, read_state
from tests.helpers.hub_server import Hub, as_the_hub
from tests.helpers.messages import message_of
from tests.helpers.real_image import outputs
from tests.helpers.tiny_timm import TINY, load_tiny, random_pixels
from tests.reference import variants

UNREADABLE = "is not a checkpoint that can be read safely"


@pytest.fixture(scope="module")
def trained():
    """A stand-in for a trained model: every parameter has a value that no initialisation gives."""
    model = timm.create_model(TINY).eval()
    variants.randomise(model)
    return model


@pytest.fixture(scope="module")
def state(trained):
    return trained.state_dict()


@pytest.fixture
def saved(tmp_path):
    """Write an object with torch.save; the path."""

    def save(content, name="weights.pth"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


def _prefixed(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


def _zeros(state):
    return {key: torch.zeros_like(value) for key, value in state.items()}


WRAPPERS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
    "parallel": lambda state: {"state_dict": _prefixed(state, "module.")},
    "compiled": lambda state: _prefixed(state, "_orig_mod."),
    "model": lambda state: {"model": state},
    "lightning": lambda state: {"state_dict": _prefixed(state, "model."), "pytorch-lightning_version": "2"},
    "backbone": lambda state: _prefixed(state, "backbone."),
    "parallel lightning": lambda state: {"state_dict": _prefixed(state, "module.model.")},
    "other names": lambda state: {"model_state_dict": state, "epoch": 3},
    "other ema before model": lambda state: {"model_state_dict": _zeros(state), "ema_state_dict": state},
    "teacher": lambda state: {"student": _zeros(state), "teacher": _prefixed(state, "backbone.")},
    "ema before state_dict": lambda state: {"state_dict": _zeros(state), "state_dict_ema": state},
    "model before teacher": lambda state: {"model": state, "teacher": _zeros(state)},
    "containers without weights": lambda state: {"model": state, "model_ema": {}, "teacher": {"name": "x"}},
    "ema before model": lambda state: {"model": _zeros(state), "model_ema": _prefixed(state, "module.")},
}


SEVERAL = {
    "other ema before model": "ema_state_dict, model_state_dict",
    "teacher": "teacher, student",
    "ema before state_dict": "state_dict_ema, state_dict",
    "ema before model": "model_ema, model",
    "model before teacher": "model, teacher",
}


@pytest.mark.filterwarnings("ignore::onnxplain.export.CheckpointWarning")
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped_checkpoint_gives_the_modelsoutputs(wrapper, trained, state, saved):
    backbone = load_tiny(checkpoint=saved(WRAPPERS[wrapper](state)))
    assert not backbone.model.training
    assert torch.equal(outputs(backbone.model, random_pixels()), outputs(trained, random_pixels()))


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_of_several_sets_of_weights_it_is_said_which_is_taken(wrapper, state, saved):
    path = saved(WRAPPERS[wrapper](state))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CheckpointWarning)
        read_state(path)
    said = [str(item.message) for item in caught if item.category is CheckpointWarning]
    assert len(said) == (wrapper in SEVERAL)
    if said:
        first = SEVERAL[wrapper].partition(",")[0]
        assert said == [
            f"{path} holds several sets of weights: {SEVERAL[wrapper]}; {first} is taken, save another alone to have it"
        ]


def test_containers_in_themselves(saved):
    stored = {}
    stored["model"] = stored
    assert message_of(read_state, saved(stored)).endswith("holds no state dict of tensors")


def test_the_command_line_says_which_is_taken(state, saved, tmp_path):
    path = saved({"model": _zeros(state), "model_ema": state})
    options = ["--checkpoint", path, "--passes", "attention", "--output", tmp_path / "x.onnx"]
    done = CliRunner().invoke(cli.app, ["export", "--model", f"timm/{TINY}", *map(str, options)])
    assert done.exit_code == 0, done.output
    assert done.stderr.count("warning: ") == 1 and "model_ema is taken" in done.stderr


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_file_of_either_kind(kind, trained, state, tmp_path):
    path = tmp_path / f"my weights.{kind}"
    (safetensors.torch.save_file if kind == "safetensors" else torch.save)(state, path)
    for given in (path, str(path)):
        backbone = load_tiny(checkpoint=given)
        assert torch.equal(outputs(backbone.model, random_pixels()), outputs(trained, random_pixels()))
        assert backbone.source == path.name
        assert backbone.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("given", "size"), [(96, (96, 96)), ((96, 192), (96, 192))])
def test_position_embedding_is_resized(given, size, trained, state, saved):
    backbone = load_tiny(checkpoint=saved(state), image_size=given)
    assert backbone.preprocessing.size == size
    expected = timm.create_model(TINY).eval()
    expected.load_state_dict(state)
    expected.set_input_size(size)
    torch.testing.assert_close(outputs(backbone.model, random_pixels(size)), outputs(expected, random_pixels(size)))


def test_whole_model_is_refused(saved):
    assert UNREADABLE in message_of(load_tiny, checkpoint=saved(nn.Linear(2, 2)))


@pytest.mark.parametrize("kind", ["bare", "in a checkpoint"])
def test_malicious_pickle_is_refused_unexecuted(kind, tmp_path, saved):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Malicious(), protocol=2)) if kind == "bare" else saved({"model": Malicious()})
    assert UNREADABLE in message_of(load_tiny, checkpoint=path)
    assert not (tmp_path / "executed").exists()
    with suppress(RuntimeError):
        torch.load(path, weights_only=False)  # the trap does work
    assert (tmp_path / "executed").exists()


BYTES = {
    "empty.pth": lambda good: b"",
    "truncated.pth": lambda good: good[: len(good) // 2],
    "text.pth": lambda good: b"hello\nworld\n",
    "page.pth": lambda good: b"<!DOCTYPE html><title>404</title>",
    "zeros.bin": lambda good: bytes(1000),
    "empty.safetensors": lambda good: b"",
    "truncated.safetensors": lambda good: (300).to_bytes(8, "little") + b'{"a": ',
    "torch.safetensors": lambda good: good,
    "garbage.npz": lambda good: bytes(range(256)),
}


@pytest.mark.parametrize("name", BYTES)
def test_broken_file(name, state, saved):
    path = saved(state, name)
    path.write_bytes(BYTES[name](path.read_bytes()))
    message = message_of(load_weights, nn.Linear(2, 2), path)
    assert str(path) in message and UNREADABLE in message and "state_dict()" in message


CONTENTS = {
    "list": [torch.zeros(3)],
    "tensor": torch.zeros(3),
    "none": None,
    "number": 3,
    "list in a wrapper": {"model": [1]},
    "numbers": {"weight": 1.0},
    "unknown wrapper": {"net": {"weight": torch.zeros(3)}},
    "keys that are numbers": {1: torch.zeros(3)},
}


@pytest.mark.parametrize("content", CONTENTS)
def test_no_state_dict(content, saved):
    path = saved(CONTENTS[content])
    assert message_of(load_weights, nn.Linear(2, 2), path) == f"{path} holds no state dict of tensors"


def test_no_file(tmp_path):
    path = tmp_path / "none.pth"
    assert message_of(load_tiny, checkpoint=path) == f"no checkpoint at {path}"
    assert message_of(load_tiny, checkpoint="folder/none.pth") == "no checkpoint at folder/none.pth"  # no repository
    expected = f"no checkpoint in the folder {tmp_path}; it would be named model.safetensors or pytorch_model.bin"
    assert message_of(load_tiny, checkpoint=tmp_path) == expected


def test_keys_that_do_not_fit_are_listed(state, saved):
    changed = {key: value for key, value in state.items() if not key.startswith("blocks.5.")}
    changed |= {"extra": torch.zeros(1), "norm.weight": torch.zeros(7)}
    message = message_of(load_tiny, checkpoint=saved(changed))
    missing = len(state) - len(changed) + 1
    assert f"{missing} missing: blocks.5.attn.proj.bias, blocks.5.attn.proj.weight" in message and "…" in message
    assert "1 unexpected: extra" in message
    assert f"1 of wrong shape: norm.weight [7] instead of [{len(state['norm.weight'])}]" in message


def test_patch_embedding_that_does_not_fit(state, saved):
    changed = state | {"patch_embed.proj.weight": torch.zeros(5, 7)}
    assert "does not fit" in message_of(load_tiny, checkpoint=saved(changed))


def test_checkpoint_of_another_number_of_classes(state, saved):
    width = state["head.weight"].shape[1]
    path = saved(state | {"head.weight": torch.ones(3, width), "head.bias": torch.arange(3.0)})
    message = message_of(load_tiny, checkpoint=path)
    assert f"head.weight [3, {width}] instead of [1000, {width}]" in message
    assert "3 classes" in message and "`num_classes`" in message
    backbone = load_tiny(checkpoint=path, num_classes=3)
    assert torch.equal(backbone.model.head.bias, torch.arange(3.0)) and backbone.labels == ("0", "1", "2")


def test_checkpoint_without_a_head(state, saved):
    path = saved({key: value for key, value in state.items() if not key.startswith("head")})
    assert "2 missing: head.bias, head.weight" in message_of(load_tiny, checkpoint=path)


@pytest.mark.parametrize("name", WEIGHTS)
def test_folder(name, trained, state, tmp_path):
    """As timm, transformers and open_clip name weights in it."""
    path = tmp_path / name
    (safetensors.torch.save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    backbone = load_tiny(checkpoint=tmp_path)
    assert torch.equal(outputs(backbone.model, random_pixels()), outputs(trained, random_pixels()))
    assert backbone.source == name and backbone.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_repository(trained, state, tmp_path, monkeypatch):
    """One of timm's, of which this checkpoint is a fine-tuned one."""
    folder = tmp_path / "hub/someone/model.v1"
    folder.mkdir(parents=True)
    torch.save(state, folder / "pytorch_model.bin")
    with Hub(tmp_path / "hub") as hub:
        as_the_hub(hub, tmp_path / "cache", monkeypatch)
        expected = "someone/model.v1 holds no configuration, which would be named config.json"
        assert message_of(load_tiny, checkpoint="someone/model.v1") == expected
        (folder / "config.json").write_text('{"architecture": "test_vit"}')
        backbone = load_tiny(checkpoint="someone/model.v1")
        assert torch.equal(outputs(backbone.model, random_pixels()), outputs(trained, random_pixels()))
        (folder / "pytorch_model.bin").unlink()
        assert "someone/model.v1 holds no weights" in message_of(load_tiny, checkpoint="someone/model.v1")
        message = message_of(load_tiny, checkpoint="nobody/model")
        assert "cannot download config.json of nobody/model: the hub has no such repository" in message
