"""The blocks of code in a document, and how its commands are run: as they stand, in this process where that can be."""

import importlib
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from onnxplain import cli

ROOT = Path(__file__).parents[2]
MAKE = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(language, code) of each block, in order; blocks without a language hold commands."""
    return iter(re.findall(r"^```([\w{}-]*)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def run_blocks(text: str, scope: dict[str, Any] | None, stand_ins: Mapping[str, list[str]]) -> int:
    """Run all commands and Python of a document in the current folder.

    Args:
        text: The document.
        scope: What its Python finds; what it makes is added. None if its Python is not to be run.
        stand_ins: Words of commands, and the words that stand in their place here, such as a small model.

    Returns:
        How many commands and blocks of Python were run.
    """
    count = 0
    for language, code in blocks(text):
        if language == "python":
            if scope is not None:
                exec(code, scope)
                count += 1
        elif language in ("", "sh"):
            for line in filter(None, map(str.strip, code.splitlines())):
                if "curl " in line:
                    ask_service(line)
                    count += 1
                    continue
                words = [stand_ins.get(word, [word]) for word in shlex.split(line, comments=True)]
                run_command([word for several in words for word in several])
                count += 1
        else:
            assert language in ("js", "csharp", "text") or language.startswith("{"), f"who runs blocks of {language}?"
    return count


def run_command(words: list[str]) -> None:
    """Run a command, or see that what it names exists; fails if it fails, or if nothing is known of it."""
    match words:
        case []:
            pass
        case ["onnxplain", *arguments, "<", file]:
            run_here(arguments, Path(file).read_bytes())
        case ["onnxplain", *arguments, ">", _]:
            run_here(arguments)
        case ["onnxplain", "export" | "probe" as name, *arguments]:  # examples are alternatives, and may name one file
            run_here([name, *arguments, *(["--force"] if "--force" not in arguments else [])])
        case ["onnxplain", "evaluate", *arguments]:
            run_here(["evaluate", *arguments, "--output", tempfile.mkdtemp(dir=".")])
        case ["onnxplain", "batch", *arguments]:  # tests/batch/test_ray.py runs it on Ray
            run_here(["batch", *(word for word in arguments if word != "--ray")])
        case ["onnxplain", "serve", artifact, *options]:  # tests/serving/http/test_on_ray.py runs it as it stands
            assert Path(artifact).exists() and set(options[::2]) <= set(
                re.findall(r"--[\w-]+", CliRunner().invoke(cli.app, ["serve", "--help"]).stdout)
            )
        case ["onnxplain", *arguments]:
            run_here(arguments)
        case ["make", *targets]:
            assert set(targets) <= set(MAKE), words
        case ["pip", "install", what]:
            assert (found := re.fullmatch(r"onnxplain\[([a-z_,]+)\]", what)) and set(found[1].split(",")) <= set(EXTRAS)
        case ["python", "-m", module, *arguments] if module.startswith("benchmarks."):
            command = typer.Typer()
            command.command()(importlib.import_module(module).main)
            options = set(re.findall(r"--[\w-]+", CliRunner().invoke(command, ["--help"]).stdout))
            assert {word for word in arguments if word.startswith("-")} <= options, words
        case [".venv/bin/python", "-m", "pytest", "-q", path]:
            assert (ROOT / path).exists()
        case ["python", "-m", "http.server", "--directory", folder, "8000"]:
            serve_once(folder)
        case _:
            raise AssertionError(f"how is this command run? {shlex.join(words)}")


def run_here(arguments: list[str], sent: bytes | None = None) -> None:
    """Run the command line in this process, with that at its standard input."""
    done = CliRunner().invoke(cli.app, arguments, input=sent)
    assert done.exit_code == 0, f"onnxplain {shlex.join(arguments)}\n{done.output}\n{done.exception!r}"


def ask_service(line: str) -> None:
    """A command with curl, which asks a service that explains with the demo model, on a port that is free."""
    from tests.helpers.service import serving

    with serving(Path("artifacts/demo.onnx").resolve()) as (_, port):
        asked = line.replace("localhost:8000", f"127.0.0.1:{port}").replace("curl ", "curl -sS --fail-with-body ")
        done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def serve_once(folder: str) -> None:
    """Python's web server, on a port that is free, and one page of it."""
    command = [sys.executable, "-u", "-m", "http.server", "--directory", folder, "--bind", "127.0.0.1", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            address = re.search(r"\((http://[^)]+)\)", server.stdout.readline())[1]
            with urllib.request.urlopen(address) as answer:
                assert b"<html" in answer.read()
        finally:
            server.kill()
