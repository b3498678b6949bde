"""Count what the gate says: of right files, and of wrong ones."""

import random
import tempfile
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx_ir as ir
import torch
import typer

from onnxplain.export import Backbone, GateError, export_model
from onnxplain.export.artifact import fuse_passes, translate, verify, write
from onnxplain.export.plan import prepare
from onnxplain.export.verify import limits
from onnxplain.export.verify.op_by_op import OnnxOpByOp
from onnxplain.export.verify.reference import Reference
from onnxplain.runtime import OnnxplainError, Preprocessing

from .more_mutations import MORE
from .mutations import FILE, pick, rule
from .subjects import ARCHITECTURES, WEIGHTS, build

app = typer.Typer()
NOTHING = float(np.finfo(np.float32).eps)
"""Outputs that differ by no more, as a share of the greatest value, are the same to all who read them in float32."""
HALF = 0.5
"""Share of the wrong files that are wrong in a rule."""


def backbone(architecture: str, weights: str, seed: int) -> Backbone:
    model, size = build(architecture, weights, seed)
    preprocessing = Preprocessing(size, (0.5,) * 3, (0.5,) * 3)
    with torch.no_grad():
        classes = model(torch.zeros(1, 3, *size)).shape[1]
    return Backbone(architecture, model, preprocessing, tuple(map(str, range(classes))), "softmax", "random", None)


@app.command()
def right(
    count: Annotated[int, typer.Option(help="How many exports, of 200.")] = 200,
    seed: int = 0,
    part: Annotated[str, typer.Option(help="I/N: every Nth of them from the Ith.")] = "0/1",
) -> None:
    """Export right models; none may be refused, and no pass left out."""
    cases = [(architecture, weights) for architecture in ARCHITECTURES for weights in WEIGHTS]
    random.Random(seed).shuffle(cases)
    first, step = map(int, part.split("/"))
    counts: Counter[str] = Counter()
    for number, case in list(enumerate(cases[:count]))[first::step]:
        verdict, report = judge_right(*case, seed=number)
        counts[verdict.split(":")[0]] += 1
        print(f"[{number}] {case[0]}, {case[1]}: {verdict}", *figures(report), flush=True)
    print(dict(counts))
    if set(counts) - {"passed"}:
        raise typer.Exit(1)


def judge_right(architecture: str, weights: str, seed: int) -> tuple[str, Any]:
    """What export says of a right model."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = export_model(backbone(architecture, weights, seed), Path(folder) / "x.onnx")
        except GateError as error:
            return f"refused: {error}", error.report
        except Exception as error:
            return f"failed: {type(error).__name__} {error}", None
    return f"left out: {report.notes}" if report.notes else "passed", report


def figures(report: Any) -> list[str]:
    if report is None:
        return []
    sharp = [row for row in report.rows if row.check == limits.EQUAL]
    worst = max(sharp, key=lambda row: row.value / row.limit)
    single = max((row.value / row.limit for row in report.rows if row.check == limits.IN_FLOAT32), default=0)
    shares = max(report.resolution.items(), key=lambda item: item[1], default=("", 0))
    return [
        f"| {worst.output} {worst.value:.1e} <= {worst.limit:.0e}; float32 {single:.0e}; {shares[0]} {shares[1]:.1e}"
    ]


@app.command()
def wrong(
    count: Annotated[int, typer.Option(help="How many mutations.")] = 200,
    seed: int = 0,
    of: Annotated[int, typer.Option(help="How many mutations of one model.")] = 10,
    precision: Annotated[str, typer.Option(help="Of the files.")] = "float32",
) -> None:
    """Mutate files and rules; all must be caught but those that change nothing."""
    counts: Counter[str] = Counter()
    rng = np.random.default_rng(seed)
    cases = [(architecture, weights) for architecture in ARCHITECTURES for weights in ("fan in", "library", "trained")]
    while counts.total() < count:
        case = cases[rng.integers(len(cases))]
        subject = Mutable(*case, seed=int(rng.integers(1000)), precision=precision)
        for _ in range(min(of, count - counts.total())):
            what, verdict = subject.mutated(rng)
            counts[verdict.partition(":")[0]] += 1
            print(f"[{counts.total()}] {case[0]}, {case[1]}: {what}: {verdict}", flush=True)
    print(dict(counts))
    if "missed" in counts:
        raise typer.Exit(1)


class Mutable:
    """A right file, and what the gate compares it with, which is computed once for all that is done to it."""

    def __init__(self, architecture: str, weights: str, seed: int, precision: str = "float32") -> None:
        self.plan = prepare(backbone(architecture, weights, seed), precision=precision)
        self.size = self.plan.backbone.preprocessing.size
        self.graph, _ = fuse_passes(self.plan)
        self.artifact = translate(self.plan, self.graph)
        self.metadata = self.artifact.metadata
        self.known: dict[Any, Any] = {}

    def mutated(self, rng: np.random.Generator) -> tuple[str, str]:
        """What was done, and what came of it."""
        with tempfile.TemporaryDirectory() as folder:
            good, bad = Path(folder) / "good.onnx", Path(folder) / "bad.onnx"
            write(self.artifact, good)
            try:
                what = self._write(good, bad, rng)
            except Exception as error:
                return type(error).__name__, "cannot be written"
            return what, self._verdict(good, bad)

    def _write(self, good: Path, bad: Path, rng: np.random.Generator) -> str:
        what = None
        while what is None:
            if rng.random() < HALF:
                graph, _ = fuse_passes(self.plan)
                what = rule(graph, rng)
                model = translate(self.plan, graph).model
            else:
                model = ir.load(good)
                what = pick(rng, (*FILE, *MORE))(model, rng)
        write(replace(self.artifact, model=model), bad)
        return what

    def _verdict(self, good: Path, bad: Path) -> str:
        ask = Reference.outputs

        def remembered(reference: Any, image: Any, target: Any, names: Any, unrounded: bool = False) -> Any:
            key = image.numpy().tobytes(), int(target), tuple(names), unrounded
            if key not in self.known:
                self.known[key] = ask(reference, image, target, names, unrounded)
            return self.known[key]

        Reference.outputs = remembered
        try:
            report = verify(bad, self.artifact, self.plan, self.graph, ())
        except OnnxplainError:
            return "caught"
        finally:
            Reference.outputs = ask
        if not report.passed:
            return "caught"
        difference = self._difference(good, bad)
        return f"{'changes nothing' if difference <= NOTHING else 'missed'}: {difference:.1e}"

    def _difference(self, good: Path, bad: Path) -> float:
        """Of all outputs in float64, for many images and classes, as a share of the greatest value."""
        generator = torch.Generator().manual_seed(1)
        worst = 0.0
        for _ in range(4):
            pixels = torch.randn(2, 3, *self.size, generator=generator, dtype=torch.float64)
            targets = torch.randint(len(self.metadata.labels), (2, 2), generator=generator)
            ours, theirs = (OnnxOpByOp(path).run(pixels, targets, self.graph.names) for path in (good, bad))
            shares = [(theirs[name] - ours[name]).abs().max() / ours[name].abs().max() for name in ours]
            worst = max(worst, *map(float, shares))
        return worst


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    app()
