"""Errors name arguments of Python; the command line shows options in their place."""

import ast
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.commands import method_arguments, reporting
from onnxplain.commands.options import ARGUMENT, PYTHON_ONLY, as_options, option_of
from onnxplain.contract.errors import one_line
from onnxplain.export import HOW_TO_GET_CLASSES, load_backbone
from onnxplain.runtime import METHODS, OnnxplainError

ROOT = Path(__file__).parents[2]
FILES_OF_SERVERS = ("serving/triton/model_repository.py", "serving/triton/triton_config.py")  # the guide is a document
LIBRARY = ("contract", "catalog.py", "demo", "evaluation", "export", "lrp_graph", "runtime", *FILES_OF_SERVERS)


def _texts(source):
    """The strings of a program that are no docstrings, those with fields as one, with … for each field."""
    tree = ast.parse(source)
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone | parts:
            yield node.value


def _library():
    for name in LIBRARY:
        place = ROOT / name
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            yield from ((str(path.relative_to(ROOT)), text) for text in _texts(path.read_text()))


def test_the_library_speaks_no_command_line():
    assert [found for found in _library() if re.search(r"--[A-Za-z]", found[1])] == []


def test_every_argument_that_errors_name_has_its_option():
    named = {found[1] for _, text in _library() for found in ARGUMENT.finditer(text)}
    named |= {parameter.name for method in METHODS.values() for parameter in method.parameters}
    commands = typer.main.get_command(cli.app).commands.values()
    options = {
        option for command in commands for each in command.get_params(typer.Context(command)) for option in each.opts
    }
    assert {option_of(name) for name in named - PYTHON_ONLY} <= options
    assert named >= PYTHON_ONLY and not {option_of(name) for name in PYTHON_ONLY} & options


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("`head` has its number of classes; leave out `num_classes`", "--head has … leave out --num-classes"),
        ("give `head_pooling='own'`", "give --head-pooling own"),
        ("give `name='hf/a b'`, or `random_init=True` to go without", "give --model hf/a b, or --random-init to go …"),
        ("a head, `head.weight`", "a head, `head.weight`"),
        ("give `batch_size=1`", "give `batch_size=1`"),
    ],
)
def test_as_options(message, shown):
    assert re.fullmatch(re.escape(shown).replace("…", ".*"), as_options(message))


def test_what_others_put_in_backticks_is_no_argument_of_ours():
    assert as_options(one_line(TypeError("`labels` and `head` must agree"))) == "'labels' and 'head' must agree"


def test_one_mistake_as_each_of_both_users_sees_it():
    with pytest.raises(OnnxplainError) as caught:
        load_backbone("vit", head="head.pth", num_classes=3)
    assert str(caught.value) == "`head` has its number of classes; leave out `num_classes`"
    result = CliRunner().invoke(cli.app, ["export", "--model", "vit", "--head", "head.pth", "--num-classes", "3"])
    assert result.stderr == "error: --head has its number of classes; leave out --num-classes\n"
    assert result.exit_code == 2


def test_warnings_and_hints_name_options_too(capsys):
    reporting.print_warning("`checkpoint` has two")
    assert capsys.readouterr().err == "warning: --checkpoint has two\n"
    assert as_options(HOW_TO_GET_CLASSES).startswith("--head, a file such as probe writes, or --prompts if")


@pytest.mark.parametrize(
    "words",
    [
        ["explain", "`top_k`.onnx", "cat.png"],
        ["explain", "./`x`.onnx", "cat.png"],
        ["methods", "`foo=1`.onnx"],
        ["export", "--model=`head`/x"],
    ],
)
def test_backticks_that_the_user_typed_stay(words):
    """They are part of a name, and not an argument of ours."""
    typed = next(word for word in words if "`" in word).partition("=`")[2] or words[1].removeprefix("./")
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 2 and typed in result.stderr and "--" not in result.stderr


def test_messages_of_our_own_mistakes_are_left_as_they_are(capsys):
    assert reporting._report(TypeError("`head` is None")) == 1
    assert "unexpected TypeError: `head` is None" in capsys.readouterr().err


def test_messages_of_libraries_and_of_the_system_are_left_as_they_are(capsys):
    assert reporting._report(ImportError("this needs `torchvision`")) == 2
    assert reporting._report(FileNotFoundError(2, "No such file", "`a`.png")) == 2
    assert capsys.readouterr().err == ("error: this needs `torchvision`\nerror: [Errno 2] No such file: '`a`.png'\n")
    result = CliRunner().invoke(cli.app, ["export", "--model", "vit", "--opset", "`head`"])
    assert "'`head`'" in result.stderr and result.exit_code == 2


def test_options_beside_all_methods_are_named_as_everywhere():
    with pytest.raises(OnnxplainError, match=r"leave out --provider$"):
        method_arguments.check_all_methods(None, {"providers": ()})
