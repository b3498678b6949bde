"""Prompts as they are given, on the command line and in Python, and what is answered to those that cannot be used."""

import json
import pickle
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import open_clip
import pytest
import safetensors.torch
import torch
import transformers
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.commands import arguments
from onnxplain.export import Head, load_backbone
from onnxplain.runtime import OnnxplainError
from tests.helpers.messages import message_of
from tests.helpers.real_image import ours
from tests.helpers.text_models import OPEN_CLIP, SMALL, save_clip, save_open_clip, save_siglip

TWO = ["a cat", "a dog"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The folder of a CLIPModel."""
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder)
    return folder


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


# --- the command line


@pytest.fixture
def asked(monkeypatch):
    """What the command asks load_backbone for."""

    class Package:
        GateError = ZeroDivisionError

        @staticmethod
        def load_backbone(*arguments, prompts, templates, **options):
            calls.append((prompts, list(templates)))
            raise OnnxplainError("enough")

    calls = []
    monkeypatch.setattr(arguments, "export_package", lambda: Package)
    return calls


@pytest.mark.parametrize(
    ("options", "prompts", "templates"),
    [
        (["--prompts", "a cat", "a dog"], TWO, []),
        (["--prompts", "a cat", "--prompts", "a dog"], TWO, []),
        (["--prompts=a cat", "a dog"], TWO, []),
        (["--prompts", "a cat", "a dog", "--template", "a {}", "two {}", "--opset", "20"], TWO, ["a {}", "two {}"]),
        (["--template", "a {}", "--force", "--prompts", "a cat", "a dog"], TWO, ["a {}"]),
        (["--prompts", "-5 degrees", "warm"], ["-5 degrees", "warm"], []),
        (["--prompts", "a cat, a dog"], ["a cat, a dog"], []),
        (["--prompts", "classes.txt"], TWO, []),
        (["--prompts", "classes.json", "--template", "templates"], TWO, ["a {}", "two {}"]),
        (["--opset", "20"], None, []),
    ],
)
def test_values(options, prompts, templates, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("classes.txt").write_text("a cat\na dog\n")
    Path("classes.json").write_text(json.dumps(TWO))
    Path("templates").write_text("a {}\ntwo {}")
    assert run("export", "--model", "clip", *options).stderr == "error: enough\n"
    assert asked == [(prompts, templates)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompts"], "Option '--prompts' requires an argument"),
        (["--prompts", "nope.txt"], "there is no file nope.txt with prompts"),
        (["--prompts", "gaps.txt"], "prompts in gaps.txt must be text, none of them empty"),
        (["--prompts", "a", "--template", "nope.txt"], "there is no file nope.txt with templates"),
        (["--force", "a dog"], "unexpected extra argument"),
    ],
)
def test_values_that_are_none(options, message, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("gaps.txt").write_text("a cat\n\na dog\n")
    done = run("export", "--model", "clip", *options)
    assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1 and not asked


def test_from_a_shell():
    """--prompts "a cat" "a dog" as a shell gives it, with a mistake that is found before PyTorch is imported."""
    command = [sys.executable, "cli.py", "export", "--model", "clip", "--prompts", "a cat", "a dog"]
    done = subprocess.run(
        [*command, "--template", "nope.txt"], capture_output=True, text=True, check=False, cwd=Path(cli.__file__).parent
    )
    assert done.returncode == 2 and done.stderr.startswith("error: there is no file nope.txt with templates")


def test_one_value_each_leaves_the_rest_alone():
    given = ["--model", "clip", "--labels", "x", "y", "--force", "-h"]
    assert arguments.one_value_each(given) == given


# --- mistakes


_message = partial(message_of, load_backbone, most=500)


MISTAKES = {
    "not a list": ({"prompts": "a cat"}, "`prompts` must be a list of texts, got 'a cat'"),
    "not texts": ({"prompts": ["a cat", 1]}, "`prompts` must be a list of texts, got ['a cat', 1]"),
    "none": ({"prompts": []}, "`prompts` need words for each class"),
    "an empty one": ({"prompts": ["a cat", " "]}, "none of them empty, got ['a cat', ' ']"),
    "one twice": ({"prompts": ["a cat", "a dog", "a cat"]}, "name the class 'a cat' twice"),
    "one of softmax": ({"prompts": ["a cat"]}, "one alone is always certain: give `prompts` of 'a cat' and another"),
    "templates alone": ({"templates": ["a {}"]}, "`templates` are what `prompts` are put into"),
    "a template as text": ({"prompts": TWO, "templates": "a {}"}, "`templates` must be a list of texts"),
    "a template without a place": ({"prompts": TWO, "templates": ["a {}", "two"]}, "where the class goes"),
    "with a head": ({"prompts": TWO, "head": Head(torch.ones(2, 24))}, "leave out `head` and `num_classes`"),
    "with classes": ({"prompts": TWO, "num_classes": 2}, "leave out `head` and `num_classes`"),
    "with a pooling": ({"prompts": TWO, "head_pooling": "own"}, "give `head` too"),
    "too few labels": ({"prompts": TWO, "labels": ["x"]}, "1 labels given for a model of 2 classes"),
    "too long": ({"prompts": ["a cat", "abcdefgh" * 8]}, "takes 66 tokens, the text encoder reads 48"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(case, clip):
    options, expected = MISTAKES[case]
    assert expected in _message("clip", checkpoint=clip, **options)


@pytest.mark.parametrize("name", ["vit", "dinov2", "timm/vit_base_patch16_clip_224", "torchvision/vit_b_16"])
def test_models_without_text(name):
    assert f"need a model with a text encoder, not {name}; known are clip" in _message(name, prompts=TWO)


def test_one_prompt_of_a_sigmoid(tmp_path):
    save_siglip(tmp_path)
    backbone = load_backbone("siglip", checkpoint=tmp_path, prompts=["a cat"])
    both = load_backbone("siglip", checkpoint=tmp_path, prompts=TWO)
    torch.testing.assert_close(ours(backbone), ours(both)[:, :1])


@pytest.fixture
def copy(clip, tmp_path):
    """A copy of the folder, without the files of this prefix."""

    def copied(without=None):
        shutil.copytree(clip, tmp_path / "copy", ignore=shutil.ignore_patterns(f"{without}*") if without else None)
        return tmp_path / "copy"

    return copied


def test_no_tokenizer(copy, monkeypatch):
    folder = copy("tokenizer")
    message = _message("clip", checkpoint=folder, prompts=TWO)
    assert "holds no tokenizer, which would be in tokenizer.json or vocab.json" in message
    (folder / "tokenizer.json").write_text("{")
    assert "transformers cannot load the tokenizer in" in _message("clip", checkpoint=folder, prompts=TWO)

    def fail(*_, **__):
        raise ImportError("SiglipTokenizer requires the SentencePiece library\nbut it was not found")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", fail)
    message = _message("clip", checkpoint=folder, prompts=TWO)
    assert "needs sentencepiece: pip install 'onnxplain[transformers]'" in message


def test_a_tokenizer_of_another_model(copy):
    folder = copy()
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["cat</w>"] = 1000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "text encoder fails on the prompts: index out of range" in _message("clip", checkpoint=folder, prompts=TWO)


def test_no_processor(copy):
    assert "holds no preprocessor_config.json" in _message("clip", checkpoint=copy("processor"), prompts=TWO)


def test_the_image_tower_alone(copy):
    folder = copy()
    state = safetensors.torch.load_file(folder / "model.safetensors")
    vision = {key: value for key, value in state.items() if key.startswith(("vision", "visual"))}
    safetensors.torch.save_file(vision, folder / "model.safetensors", {"format": "pt"})
    message = _message("clip", checkpoint=folder, prompts=TWO)
    assert "does not fit CLIPModel" in message and "missing: logit_scale" in message
    assert not load_backbone("clip", checkpoint=folder).has_classes
    transformers.CLIPVisionConfig(**SMALL).save_pretrained(folder)
    message = _message(f"hf/{folder}", prompts=TWO)
    assert "of type clip_vision_model, without a text encoder for `prompts`; types with one are clip, siglip" in message


def test_nothing_in_a_folder_is_executed(copy, monkeypatch, tmp_path):
    class Malicious:
        def __reduce__(self):
            return (tmp_path / "executed").mkdir, ()

    folder = copy()
    save_open_clip(monkeypatch, tmp_path)
    (folder / "evil.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'executed')!r}).mkdir()\n")
    given = json.loads((folder / "tokenizer_config.json").read_text())
    own = {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, "tokenizer_class": "Evil"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**given, **own}))
    load_backbone("clip", checkpoint=folder, prompts=TWO)  # with CLIP's own tokenizer
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "x.bin"):
        (folder / name).write_bytes(pickle.dumps(Malicious(), protocol=2))
    assert "read safely" in _message("clip", checkpoint=folder, prompts=TWO)
    for name in (f"hf/{folder}", "open_clip/tiny"):
        assert "read safely" in _message(name, checkpoint=folder / "x.bin", prompts=TWO)
    assert not (tmp_path / "executed").exists()


def test_open_clip_mistakes(monkeypatch, tmp_path):
    folder, model = tmp_path, save_open_clip(monkeypatch, tmp_path)
    given = {"checkpoint": folder / "x.pt", "prompts": TWO}
    message = _message("open_clip/tiny", checkpoint=folder / "x.pt", prompts=["a cat", "cat " * 60])
    assert "takes 62 tokens, the text encoder reads 48" in message
    state = {key: value for key, value in model.state_dict().items() if key.startswith("visual.")}
    torch.save(state, folder / "visual.pt")
    assert "missing: ln_final.bias" in _message("open_clip/tiny", **{**given, "checkpoint": folder / "visual.pt"})
    load_backbone("open_clip/tiny", checkpoint=folder / "visual.pt")
    config = {**OPEN_CLIP, "text_cfg": {**OPEN_CLIP["text_cfg"], "hf_tokenizer_name": str(folder / "nothing")}}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
    assert "open_clip cannot load the tokenizer of tiny" in _message("open_clip/tiny", **given)
    monkeypatch.setitem(sys.modules, "open_clip", None)
    assert "models of open_clip need open_clip: pip install 'onnxplain[open_clip]'" in _message("clip", prompts=TWO)


def test_weights_that_are_not_on_the_hub(monkeypatch, caplog):
    def fail(*_, **__):
        raise OSError("no network")

    elsewhere = {"openai": open_clip.pretrained._pcfg(url="https://localhost/x.pt", quick_gelu=True)}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "ViT-B-16-quickgelu", elsewhere)
    monkeypatch.setattr(open_clip.factory, "download_pretrained", fail)
    message = _message("clip", prompts=TWO)
    assert "cannot download the weights of open_clip's ViT-B-16-quickgelu openai" in message and not caplog.records


def test_without_transformers(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "need transformers: pip install 'onnxplain[transformers]'" in _message("clip", checkpoint=clip, prompts=TWO)
