"""A TorchScript file is a program: it is opened only if it is trusted, and only if it is as export wrote it."""

import hashlib
import warnings
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.commands import arguments
from onnxplain.export import export_model
from onnxplain.export.formats.sealing import seal_torchscript
from onnxplain.runtime import METADATA_KEY, Explainer, OnnxplainError
from tests.helpers.export_cases import LABELS, build, preprocessing


class Overwriting(torch.nn.Module):
    """What it does, it does when PyTorch loads it, before anything of it is called."""

    def __init__(self, victim: str) -> None:
        super().__init__()
        self.victim = victim

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.victim, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.victim = state[0]
        written = torch.from_file(self.victim, True, 6, dtype=torch.uint8).fill_(33)
        self.training = bool(written.sum() == 0)  # what nothing depends on, PyTorch would leave out


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An artifact without passes, for time, and its report."""
    model, path = build("plain"), tmp_path_factory.mktemp("artifacts") / "x.pt"
    given = {"labels": LABELS, "preprocessing": preprocessing(model), "passes": []}
    return SimpleNamespace(path=path, report=export_model(model, path, "torchscript", **given))


def test_a_program_does_nothing_unless_it_is_trusted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    victim, path = tmp_path / "victim", tmp_path / "x.pt"
    victim.write_text("secret")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Overwriting(str(victim))), path, _extra_files={METADATA_KEY: "{}"})
    seal_torchscript(path)
    with pytest.raises(OnnxplainError, match=r"x\.pt is a TorchScript file, .* a program: .* `trust=True`; else"):
        Explainer(path)
    cat = tmp_path / "cat.png"
    cat.write_bytes(b"")
    for command in (["explain", "x.pt", "cat.png"], ["info", "x.pt"]):
        done = CliRunner().invoke(cli.app, command)
        assert done.exit_code == 2 and done.stderr.count("\n") == 1 and "is a program" in done.stderr
    assert victim.read_text() == "secret"
    with pytest.raises(OnnxplainError, match="schema is None"):
        Explainer(path, trust=True)
    assert victim.read_text() == "!!!!!!"  # so that this test could fail


def test_trusted_on_the_command_line(exported, tmp_path, monkeypatch):
    """What export proposes to do with its file is what works."""
    monkeypatch.chdir(tmp_path)

    def export_model(backbone, path, *_, **options):
        path.write_bytes(exported.path.read_bytes())
        return exported.report

    package = SimpleNamespace(
        load_backbone=lambda *_, **options: SimpleNamespace(has_classes=True),
        export_model=export_model,
        GateError=OSError,
    )
    monkeypatch.setattr(arguments, "export_package", lambda: package)
    done = CliRunner().invoke(cli.app, ["export", "--model", "demo", "--format", "torchscript", "--output", "x.pt"])
    assert done.exit_code == 0
    *_, proposed = done.stdout.splitlines()
    command = proposed.removeprefix("try: ").replace("IMAGE", "cat.png").split()[1:]
    Image.new("RGB", (9, 9)).save("cat.png")
    assert CliRunner().invoke(cli.app, [*command, "--device", "cpu"]).exit_code == 0
    assert len(list(tmp_path.glob("explanations/cat.png.x.*.png"))) == 1
    done = CliRunner().invoke(cli.app, ["info", "x.pt", "--trust"])
    assert done.exit_code == 0 and "rollout" in done.stdout


def test_the_digest_is_the_comment_of_the_archive(exported):
    content = exported.path.read_bytes()
    assert content[-64:].decode() == hashlib.sha256(content[:-64]).hexdigest()
    with zipfile.ZipFile(exported.path) as archive:
        assert archive.comment == content[-64:] and archive.testzip() is None


def test_a_single_bit_is_noticed_in_every_record(exported, tmp_path):
    path, content, rng = tmp_path / "x.pt", exported.path.read_bytes(), np.random.default_rng(0)
    with zipfile.ZipFile(exported.path) as archive:
        records = archive.infolist()
    weight = max(records, key=lambda item: "/data/" in item.filename and item.file_size)
    small = [item for item in records if "/data/" not in item.filename and item.file_size]
    assert len(small) >= 6 and any("extra/onnxplain" in item.filename for item in small)
    for record in (weight, *small):
        changed = bytearray(content)
        start = content.index(record.filename.encode(), record.header_offset) + len(record.filename)
        changed[start + int(rng.integers(record.file_size))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with pytest.raises(OnnxplainError, match="was damaged or changed since export"):
            Explainer(path, "cpu", trust=True)


def test_metadata_changed_with_other_tools(exported, tmp_path):
    path, held = tmp_path / "x.pt", {METADATA_KEY: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(exported.path, _extra_files=held)
        changed = held[METADATA_KEY].replace(b'"readout": [0]', b'"readout": [1]')
        assert changed != held[METADATA_KEY]
        torch.jit.save(module, path, _extra_files={METADATA_KEY: changed})
    with pytest.raises(OnnxplainError, match="was damaged or changed since export"):
        Explainer(path, "cpu", trust=True)
