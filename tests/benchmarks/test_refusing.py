"""What the benchmarks cannot measure is refused in one line, with status 2."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import typer

from benchmarks import copies, cost, folder, growth, profile, sweep
from benchmarks.ways import CPU, CUDA
from tests.helpers.tiny_artifact import build

WITHOUT_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="says what it says without CUDA")
MISSING, TINY = Path("nosuch.onnx"), Path("tiny.onnx")


@pytest.mark.parametrize(
    ("main", "message"),
    [
        (partial(cost.main, model=["nosuch"]), "timm has no model 'nosuch'"),
        (partial(cost.main, leave_out=["nosuch"]), "there is no way nosuch; there are plain, onnx, onnx_packed,"),
        (partial(cost.main, runs=0), "--runs must be at least 1"),
        (partial(cost.main, threads=[2, 0]), "--threads must be at least 1"),
        pytest.param(partial(cost.main, device=[CUDA]), "there is no CUDA device", marks=WITHOUT_CUDA),
        (partial(cost.main, device=["tpu"]), "--device must be cpu or cuda, got 'tpu'"),
        (partial(cost.main, model=["resnet18"]), ""),  # told by the process that would write its files
        (partial(folder.main, model="nosuch"), "timm has no model 'nosuch'"),
        (partial(growth.main, model="nosuch"), "timm has no model 'nosuch'"),
        (partial(profile.main, MISSING), "cannot be opened: "),
        (partial(profile.main, TINY, output="nosuch"), "no flag for nosuch"),
        (partial(copies.main, MISSING, device=CPU), "cannot be opened: "),
        pytest.param(partial(copies.main, TINY), "cuda", marks=WITHOUT_CUDA),
        (partial(sweep.main, only="nosuch"), "no name of a model contains 'nosuch'"),
    ],
)
def test_refused_in_one_line(
    main: Callable[[], None],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    repository = Path.cwd()
    monkeypatch.setenv("PYTHONPATH", str(repository), prepend=":")  # of the process that writes files
    monkeypatch.chdir(tmp_path)
    build(TINY)
    with pytest.raises(typer.Exit) as end:
        main()
    told = capfd.readouterr().err
    assert end.value.exit_code == 2 and len(told.splitlines()) == 1, told
    assert told.startswith("error: ") and message in told
