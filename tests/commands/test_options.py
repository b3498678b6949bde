"""Options that are made from tables and records, and mistakes in options that are told before any work begins."""

import json
from dataclasses import fields
from pathlib import Path

import onnxruntime
import pytest
import typer

from onnxplain import cli
from onnxplain.commands.arguments import parse_providers
from onnxplain.commands.export import kinds_of_files
from onnxplain.commands.model_options import ModelOptions
from onnxplain.commands.option_groups import with_groups
from onnxplain.commands.options import option_of
from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.formats import FORMATS, Format
from onnxplain.runtime import METHODS, Explainer
from onnxplain.runtime.backends.providers import DEVICES
from onnxplain.runtime.methods import parameters
from tests.helpers.command_line import artifact, assert_mistake, folder, run  # noqa: F401

CPU = "CPUExecutionProvider"

pytestmark = pytest.mark.usefixtures("folder")


def _options(command):
    made = typer.main.get_command(cli.app).commands[command]
    return {name: option for option in made.get_params(typer.Context(made)) for name in option.opts}


def test_every_parameter_of_a_method_is_an_option_of_explain():
    options = _options("explain")
    for parameter in parameters.PARAMETERS.values():
        option = options[f"--{parameter.name.replace('_', '-')}"]
        assert option.default is None and option.help.lower() == f"{parameter.summary}.".lower()
    used = {parameter.name: parameter for method in METHODS.values() for parameter in method.parameters}
    assert all(parameters.PARAMETERS[name] is parameter for name, parameter in used.items())
    assert used.keys() == parameters.PARAMETERS.keys()


def test_a_new_parameter_is_one_row(artifact, monkeypatch):  # noqa: F811
    row = parameters.Parameter("hue", str, "red", "one of red, blue", lambda value, layers: True, "a colour", ("red",))
    monkeypatch.setitem(parameters.PARAMETERS, "hue", row)
    shown = " ".join(run("explain", "--help").stdout.split())
    assert "--hue" in shown and "A colour." in shown
    assert_mistake("has no parameter --hue; it has: --head-fusion", "explain", artifact, "cat.png", "--hue", "red",
                   "--method", "rollout")  # fmt: skip


def test_help_names_every_format_and_device(monkeypatch):
    options = _options("export")
    assert options["--format"].help.startswith(
        "onnx; or torchscript, which PyTorch calls deprecated, in files named .pt"
    )
    assert options["--output"].show_default.startswith("artifacts/<name>.onnx, or .pt")
    assert all(
        name in options["--format"].help and row.about in options["--format"].help for name, row in FORMATS.items()
    )
    assert _options("explain")["--device"].metavar == "|".join(("auto", *sorted(DEVICES)))
    monkeypatch.setitem(FORMATS, "zip", Format(".zip", "compressed"))
    assert kinds_of_files().endswith("; or zip, compressed")


def test_the_model_s_options_are_those_of_export_and_probe():
    names = {option_of(item.name) for item in fields(ModelOptions)}
    assert len(names) == 9
    for command in ("export", "probe"):
        assert names < _options(command).keys()


def test_the_words_of_model_options_are_read_back(monkeypatch):
    seen = []
    given = ModelOptions(Path("a b.pth"), "cls", "224x384", "0.5", None, 0.9, "squash", None, True)
    app = typer.Typer()

    @app.command()
    @with_groups
    def command(*, options: ModelOptions, other: int = 1) -> None:
        seen.append((options, other))

    app([*given.words(), "--head-pooling", "cls", "--other", "2"], standalone_mode=False)
    assert seen == [(given, 2)]


def test_providers(artifact):  # noqa: F811
    assert parse_providers(None) is None
    given = [CPU, f'{CPU}={{"a": "b=c"}}']
    assert parse_providers(given) == [CPU, (CPU, {"a": "b=c"})]
    for wrong in (f"{CPU}=1", f"{CPU}=", f"{CPU}={{", f"{CPU}={'[' * 100_000}"):
        with pytest.raises(OnnxplainError, match=r"--provider must be a name, or NAME=OPTIONS with a JSON object such"):
            parse_providers([wrong])
    assert run("explain", artifact, "cat.png", "--provider", CPU).exit_code == 0
    message = f"there is no provider 'CPUProvider'; there are: {', '.join(onnxruntime.get_available_providers())}"
    assert_mistake(message, "explain", artifact, "cat.png", "--provider", "CPUProvider")
    both = ("--provider", CPU, "--device", "cpu")
    assert_mistake("--device and --provider exclude each other", "explain", artifact, "cat.png", *both)


def test_a_class_asked_for_twice_is_drawn_once(artifact):  # noqa: F811
    first = Explainer(artifact).explain("cat.png").target
    targets = [word for target in (4, first, -1, "Dog", 4) for word in ("--target", target)]
    result = run("explain", artifact, "cat.png", "--method", "rollout", "--method", "gmar", *targets)
    assert result.exit_code == 0 and "wrote 4 files" in result.stdout
    assert [line.partition(" (class ")[2][0] for line in result.stdout.splitlines() if " (class " in line] == [
        "4",
        str(first),
    ]
    assert not list(Path("explanations").glob("*-2.png"))


@pytest.mark.parametrize("command", ["export", "probe"])
def test_an_output_that_is_written_as_a_folder(command):
    options = ["--model", "demo", *(["--data", "pictures"] if command == "probe" else [])]
    assert_mistake("--output new/ is a folder; give the name of the file", command, *options, "--output", "new/")


@pytest.mark.parametrize("name", ["rollout", "Raw-Attention"])
def test_a_method_is_no_artifact(name):
    assert_mistake(f"{name} is a method, not an artifact; the command methods without it", "methods", name)
    assert_mistake("there is no artifact nope", "methods", "nope")


def test_folders_below_are_not_searched_without_being_asked_to(artifact, monkeypatch):  # noqa: F811
    import os

    Path("pictures/below/deep").mkdir(parents=True)
    listed, original = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path=".": listed.append(str(path)) or original(path))
    result = run("explain", artifact, "pictures", "--method", "rollout")
    assert "1 sub-folder was skipped; --recursive takes the images in it too" in result.stdout
    assert not [path for path in listed if Path(path).parts[-2:] == ("pictures", "below")]


def test_providers_in_json_reach_onnxruntime(artifact, monkeypatch):  # noqa: F811
    seen, original = [], onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda *given, providers, **rest: seen.append(providers) or original(*given, providers=providers, **rest),
    )
    options = {"use_arena": "0"}
    run("explain", artifact, "cat.png", "--provider", f"{CPU}={json.dumps(options)}")
    assert seen == [[(CPU, options)]]
