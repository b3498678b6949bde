"""What an explanation costs on a GPU: the tests that need one, and the tables of benchmarks/cost.py on CUDA.

    python -m benchmarks.gpu [--no-tests] [--model vit_base_patch16_224] [--results artifacts/gpu.jsonl]

It needs no network. Interrupted, it goes on where it was: at the next way of a model, all of whose cases are measured
in one process.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from onnxplain.contract.errors import OnnxplainError
from onnxplain.runtime.backends.providers import providers_of_device

from .cost import WIDTH, measure_model
from .processes import cores, machine
from .refusing import check_models
from .results import Case, Results, around, document, sections, write_between
from .ways import CUDA, WAYS

MODELS = ("vit_base_patch16_224", "vit_large_patch16_224")
SIZE = 224
BATCHES, TARGETS = (1, 8, 64), (1, 10)
RUNS, BUDGET, LIMIT = 7, 2.0, 30.0
BEGIN = "<!-- written by benchmarks/gpu.py: begin -->"


def missing() -> str | None:
    """Why nothing can be measured here, in one line."""
    if not torch.cuda.is_available():
        return "there is no CUDA device that PyTorch can use: nothing is measured"
    try:
        providers_of_device(CUDA)
    except OnnxplainError as error:
        return str(error)
    return None


def main(
    model: Annotated[list[str] | None, typer.Option(help="models of timm")] = None,
    tests: Annotated[bool, typer.Option(help="run the tests that need a GPU first")] = True,
    results: Annotated[Path, typer.Option(help="where the results go")] = Path("artifacts/gpu.jsonl"),
    document_: Annotated[Path | None, typer.Option("--document", help="Markdown with a place for the tables")] = None,
) -> None:
    """Run the tests, measure what is not in the file of results, and print the tables of all that is."""
    reason = missing()
    if reason is not None:
        print(reason, file=sys.stderr)
        raise typer.Exit(1)
    check_models(model or [])
    if document_ is not None:
        around(document_, BEGIN)
    failed = tests and subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "cuda"]).returncode
    console, held, here = Console(width=WIDTH), Results(results), machine()
    for name in model or MODELS:
        cases = [Case(here, name, SIZE, CUDA, cores(), images, classes) for images in BATCHES for classes in TARGETS]
        measure_model(cases, list(WAYS), held, RUNS, BUDGET, LIMIT, console)
    for section in sections(held):
        section.show(console)
    if document_ is not None:
        write_between(document_, BEGIN, document(held))
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
