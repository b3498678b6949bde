"""Models from a hub: every library's layout, every trouble in one line, and the next try works."""

import json
import re
import socket
from functools import partial, partialmethod
from types import SimpleNamespace

import huggingface_hub
import open_clip
import pytest
import safetensors.torch
import timm
import torch
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.contract.digest import file_digest
from onnxplain.export import MODELS, load_backbone, load_features
from tests.helpers import transformers_models
from tests.helpers.hub_server import Answer, Hub, as_the_hub
from tests.helpers.messages import message_of
from tests.helpers.real_image import assert_agree, astronaut, ours, outputs, randomise
from tests.helpers.text_models import OPEN_CLIP, random_model, siglip_tokenizer

TINY = "timm/test_vit.r160_in1k"  # its repository on the hub has the same name
HF = "someone/vit"
PROMPTS = ["a photo of a cat", "two crane"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Repositories as the libraries publish them, and their models."""
    folder = tmp_path_factory.mktemp("hub")
    small, vit, both = folder / TINY, folder / HF, folder / "someone/two-towers"
    for repository in (small, vit, both):
        repository.mkdir(parents=True)
    model = randomise(timm.create_model("test_vit"))
    (small / "config.json").write_text(json.dumps({"architecture": "test_vit", "num_classes": 1000}))
    safetensors.torch.save_file(model.state_dict(), small / "model.safetensors")
    classifier = transformers_models.save(vit, "vit", *transformers_models.CLASSIFIERS["vit"])
    config = {**OPEN_CLIP, "text_cfg": {**OPEN_CLIP["text_cfg"], "hf_tokenizer_name": "someone/two-towers"}}
    torch.manual_seed(0)
    open_clip.factory._MODEL_CONFIGS["two-towers"] = config
    towers = random_model(open_clip.create_model("two-towers", load_weights=False), 30)
    del open_clip.factory._MODEL_CONFIGS["two-towers"]
    torch.save(towers.state_dict(), both / "open_clip_pytorch_model.bin")
    (both / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    siglip_tokenizer(48).save_pretrained(both)
    return SimpleNamespace(path=folder, models={TINY: model, f"hf/{HF}": classifier, "towers": towers}, config=config)


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "two-towers", folder.config)
    tags = {
        "own": open_clip.pretrained._pcfg(
            hf_hub="someone/two-towers/", mean=(0.5,) * 3, std=(0.25,) * 3, resize_mode="squash"
        ),
        "other_gelu": open_clip.pretrained._pcfg(hf_hub="someone/two-towers/", quick_gelu=True),
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "two-towers", dict(reversed(tags.items())))
    with Hub(folder.path) as hub:
        yield as_the_hub(hub, tmp_path / "cache", monkeypatch)


message = partial(message_of, load_backbone, most=500)


def pixels():
    return torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_of_timm(weights, hub, folder, tmp_path):
    model = folder.models[TINY]
    if weights != "model.safetensors":
        hub.folder = tmp_path
        (tmp_path / TINY).mkdir(parents=True)
        torch.save(model.state_dict(), tmp_path / TINY / weights)
    stages = []
    backbone = load_backbone(TINY, progress=stages.append)
    assert torch.equal(outputs(backbone.model, pixels()), outputs(model, pixels()))
    assert backbone.source == f"timm {TINY.removeprefix('timm/')}" and len(backbone.labels) == 1000
    assert backbone.sha256 == file_digest(hub.folder / TINY / weights)
    assert hub.downloads() == [f"{TINY}/{weights}"]
    megabytes = (hub.folder / TINY / weights).stat().st_size / 1e6
    assert stages[-1] == f"downloading {weights} of {TINY}, {megabytes:.0f} of {megabytes:.0f} MB"
    load_features(TINY, progress=stages.append)
    assert len(hub.downloads()) == 1


def test_of_transformers(hub, folder):
    backbone = load_backbone(f"hf/{HF}")
    model = folder.models[f"hf/{HF}"]
    size = pixels()[..., : transformers_models.SIZE, : transformers_models.SIZE]
    assert_agree(outputs(backbone.model, size), outputs(model, size).logits)
    assert backbone.labels == ("cat", "dog", "crane") and backbone.source == f"transformers {HF}"
    assert sorted(hub.downloads()) == [
        f"{HF}/{name}" for name in ("config.json", "model.safetensors", "preprocessor_config.json")
    ]


@pytest.mark.parametrize("row", ["dinov2", "dinov2-reg"])
def test_a_row_whose_weights_transformers_publishes(row, hub, tmp_path):
    """With 1000 classes without names, which are ImageNet's."""
    hub.folder = tmp_path
    repository = MODELS[row].repository
    (tmp_path / repository).mkdir(parents=True)
    names = {index: f"LABEL_{index}" for index in range(1000)}
    transformers_models.save(tmp_path / repository, row, *transformers_models.CLASSIFIERS[row], names=names)
    backbone = load_backbone(row)
    assert {path.rpartition("/")[0] for path in hub.downloads()} == {repository}
    assert backbone.source == f"transformers {repository}"
    assert backbone.labels[0].startswith("tench") and len(backbone.labels) == 1000


def test_of_open_clip(hub, folder):
    """Its logits for prompts, on the picture as the published preprocessing makes it, by the tokenizer of the hub."""
    given = open_clip.pretrained.get_pretrained_cfg("two-towers", "own")
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(64, mean=given["mean"], std=given["std"], resize_mode="squash"),
        is_train=False,
    )
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder.path / 'someone/two-towers'}")
    picture = transform(astronaut()).unsqueeze(0)
    with torch.no_grad():
        expected, _ = folder.models["towers"].get_logits(picture, tokenizer(PROMPTS))
    backbone = load_backbone("open_clip/two-towers/own", prompts=PROMPTS)
    assert_agree(ours(backbone), expected)
    assert backbone.source == "open_clip two-towers/own"
    assert backbone.sha256 == file_digest(folder.path / "someone/two-towers/open_clip_pytorch_model.bin")
    file = folder.path / "someone/two-towers/open_clip_pytorch_model.bin"
    by_file = load_backbone("open_clip/two-towers/own", checkpoint=file, prompts=PROMPTS)
    assert by_file.preprocessing == backbone.preprocessing


def test_weights_of_another_gelu(hub):
    """open_clip loads them and logs a warning, that the answers are wrong."""
    expected = "other_gelu were trained with another GELU than two-towers has; the model they are of is open_clip/two-"
    assert expected in message("open_clip/two-towers/other_gelu")
    assert load_backbone("open_clip/two-towers").source == "open_clip two-towers/own"  # though it comes second


GRANT = "access must be granted: ask for it at {endpoint}/{repository}, then log in with hf auth login"
TROUBLES = {
    "cut": (
        ("GET", "cut"),
        "it broke off, try again (RemoteProtocolError: peer closed connection without sending complete",
    ),
    "short": (("GET", "short"), "it broke off, try again (OSError: Consistency check failed: file should be of size"),
    "other": ("other", "is damaged, as its checksum is not the one that the hub gives; it was deleted from the cache"),
    "gated": ("gated", GRANT),
    "forbidden": (403, GRANT),
    "unknown": ("unknown", "the hub has no such repository, or it is private: check the name, or log in with hf auth"),
    "wrong token": ("unauthorised", "the hub does not accept the token it was given: log in with hf auth login again"),
    "down": (503, "the hub answers with status 503, try again later"),
    "error": (500, "the hub answers with status 500, try again later"),
    "too many": (429, "the hub answers with status 429, try again later"),
    "down in between": (("GET", 502), "the hub answers with status 502, try again later"),
}
MODELS_OF = {TINY: TINY, f"hf/{HF}": HF, "open_clip/two-towers": "someone/two-towers"}


@pytest.mark.parametrize(
    ("name", "trouble"),
    [(TINY, trouble) for trouble in TROUBLES]
    + [(name, trouble) for name in list(MODELS_OF)[1:] for trouble in ("cut", "gated")],
)
def test_trouble(name, trouble, hub, tmp_path):
    """One line; nothing half-written; the next try works."""
    repository = MODELS_OF[name]
    hub.trouble[repository], expected = TROUBLES[trouble]
    text = message(name)
    assert expected.format(endpoint=hub.endpoint, repository=repository) in text and repository in text
    if trouble != "other" and name == TINY:
        assert text.startswith("cannot download ") and "`checkpoint`" in text
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.suffix == ".incomplete"]
    hub.trouble.clear()
    load_backbone(name)


MISSING = {
    (TINY, "model.safetensors"): "holds no weights, which would be named model.safetensors or pytorch_model.bin",
    (f"hf/{HF}", "model.safetensors"): "holds no weights, which would be named model.safetensors or pytorch_model.bin",
    (f"hf/{HF}", "preprocessor_config.json"): "holds no preprocessor_config.json",
    (f"hf/{HF}", "config.json"): "holds no config.json",
    ("open_clip/two-towers", "open_clip_pytorch_model.bin"): "holds no weights, which would be named open_clip_model.",
    ("open_clip/two-towers", "tokenizer.json"): "open_clip cannot load the tokenizer of two-towers",
}


@pytest.mark.parametrize(("name", "file"), MISSING)
def test_missing_file(name, file, hub, folder, tmp_path):
    repository = MODELS_OF[name]
    hub.folder = tmp_path
    (tmp_path / repository).mkdir(parents=True)
    files = list((folder.path / repository).iterdir())
    for path in files:
        if path.name != file:
            (tmp_path / repository / path.name).symlink_to(path)
    options = {"prompts": PROMPTS} if "tokenizer" in file else {}
    assert MISSING[name, file] in message(name, **options)
    (tmp_path / repository / file).symlink_to(folder.path / repository / file)
    load_backbone(name, **options)


def test_of_no_repository(hub):
    assert "no such repository" in message(TINY, checkpoint="nobody/model")
    assert "HFValidationError" in message("hf/no--body/..model")


def offline(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return "HF_HUB_OFFLINE is set, and the cache does not have them"


def no_network(hub, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(hub.endpoint, f"http://127.0.0.1:{port}")
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    return "cannot be reached (ConnectError: "


def hub_down(hub, monkeypatch):
    hub.trouble.update(dict.fromkeys(MODELS_OF.values(), 503))
    return "the hub answers with status 503"


@pytest.mark.parametrize(
    ("name", "away"),
    [*((name, offline) for name in MODELS_OF), (f"hf/{HF}", no_network), (f"hf/{HF}", hub_down), (TINY, hub_down)],
)
def test_without_the_hub(name, away, hub, monkeypatch):
    """What is in the cache is used, and if that does not do, the line comes at once."""
    options = {"prompts": PROMPTS} if name.startswith("open_clip/") else {}
    with monkeypatch.context() as there:
        reason = away(hub, there)
        text = message(name, **options)
        assert reason in text and "give `checkpoint` with a file or folder you have, or `random_init=True`" in text
    hub.trouble.clear()
    load_backbone(name, **options)
    away(hub, monkeypatch)
    asked = len(hub.asked)
    load_backbone(name, **options)
    assert len(hub.asked) - asked <= 2 and not hub.pauses


def test_cache_that_another_program_filled(hub, monkeypatch):
    """It does not say of a file that there is none."""
    huggingface_hub.snapshot_download(HF, endpoint=hub.endpoint)
    offline(hub, monkeypatch)
    load_backbone(f"hf/{HF}")


def test_damaged_cache(hub, tmp_path):
    load_backbone(TINY)
    file = next((tmp_path / "cache").rglob("model.safetensors")).resolve()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert "it was deleted from the cache" in message(TINY)
    load_backbone(TINY)


def test_command_line(hub, tmp_path, monkeypatch):
    """Status 2, one line on standard error, no file; the next try works, and says once what it downloads."""
    monkeypatch.chdir(tmp_path)
    command = ["export", "--model", TINY, "--passes", "attention"]
    hub.trouble[TINY] = "gated"
    result = CliRunner().invoke(cli.app, command)
    line = r"error: cannot download model.safetensors of timm/\S+: access must be granted: .*\n"
    assert result.exit_code == 2 and re.fullmatch(line, result.stderr)
    assert result.stdout.splitlines() == ["importing PyTorch", f"loading {TINY}"]
    assert not (tmp_path / "artifacts").exists()
    hub.trouble.clear()
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 0 and " MB\n" not in result.output.partition("wrote ")[0]
    assert sum(line.startswith("downloading ") for line in result.stdout.splitlines()) == 1
    assert (tmp_path / "artifacts/test_vit.r160_in1k.onnx").is_file()


def test_disk_that_is_full(hub, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download._chmod_and_move", full)
    assert "model.safetensors of timm/test_vit.r160_in1k: OSError: [Errno 28] No space left on device;" in message(TINY)


def test_what_is_no_hub(hub, monkeypatch):
    """It answers, but not as a hub does."""
    monkeypatch.setattr("tests.helpers.hub_server.Answer.commit", None)
    monkeypatch.setattr("tests.helpers.hub_server.Answer.head", partialmethod(without_commit, Answer.head))
    text = message(TINY)
    assert "model.safetensors of timm/test_vit.r160_in1k: FileMetadataError: Response from http" in text


def without_commit(self, head, status, length, headers):
    head(self, status, length, {name: value for name, value in headers.items() if name != "X-Repo-Commit"})
