"""Ten kills of every command that writes, at random moments: is anything half-written, and is what they left removed?

    python -m tests.kills [--seed N]

Run by hand: it takes some minutes. After each kill all files under final names are read; then each command runs to its
end, and nothing unfinished may be left. It ends with status 1 if something was half-written or left.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import safe_open

from onnxplain.runtime import Explainer
from onnxplain.runtime.files import UNFINISHED

ROOT = Path(__file__).parents[1]
KILLS = 10


def _pictures(folder):
    """Eight pictures of each of two classes."""
    rng = np.random.default_rng(0)
    for brightness, name in enumerate(("dark", "bright")):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            values = rng.integers(100 * brightness, 100 * brightness + 100, (900, 900, 3), dtype=np.uint8)
            Image.fromarray(values).save(folder / name / f"{number}.png")


def _start(folder, arguments):
    program = [sys.executable, str(ROOT / "cli.py"), *arguments]
    return subprocess.Popen(program, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _read_all(folder):
    """Read every file whose name says that it is finished."""
    for path in folder.rglob("*"):
        if path.is_dir() or any(part.startswith(UNFINISHED) for part in path.relative_to(folder).parts):
            continue
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
        elif path.suffix == ".safetensors":
            with safe_open(path, "np") as file:
                [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
        elif path.suffix == ".onnx" and ".cache" not in path.parent.parent.name:
            Explainer(path, "cpu")


def _forget(folder, kept):
    """Remove what would spare the command its work."""
    for path in folder.glob(kept):
        if not path.name.startswith(UNFINISHED):
            (shutil.rmtree if path.is_dir() else Path.unlink)(path)


def check(name, arguments, needed, rng, kept="nothing"):
    """The row of a command, which keeps what fits a pattern: whether all is well."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for path in needed:
            (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
        started = time.monotonic()
        assert _start(folder, arguments).wait() == 0
        whole, left = time.monotonic() - started, 0
        for _ in range(KILLS):
            _forget(folder, kept)
            process = _start(folder, arguments)
            time.sleep(rng.uniform(0.3, 1) * whole)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            left += len(list(folder.rglob(f"{UNFINISHED}*")))
            _read_all(folder)
        _forget(folder, kept)
        process = _start(folder, arguments)
        message = process.communicate()[1]
        _read_all(folder)
        rest = [str(path.relative_to(folder)) for path in folder.rglob(f"{UNFINISHED}*")]
        good = process.returncode == 0 and not rest
        print(f"{name}, {whole:.1f} s: unfinished after {KILLS} kills {left}, after the next run {rest} {message}")
        return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    rng = random.Random(parser.parse_args().seed)
    with tempfile.TemporaryDirectory() as place:
        data, artifact = Path(place) / "data", Path(place) / "demo.onnx"
        _pictures(data)
        assert _start(place, ["export", "--model", "demo", "--output", str(artifact)]).wait() == 0
        explain = ["explain", "demo.onnx", "data", "--recursive", "--method", "rollout"]
        probe = ["probe", "--model", "demo", "--data", "data", "--output", "out/head.safetensors", "--force"]
        good = [
            check("explain", explain, [artifact, data], rng),
            check("explain --cache", [*explain, "--cache"], [artifact, data], rng, "*.cache/*"),
            check("probe", [*probe, "--C", "1"], [data], rng, "out/*"),
            check("export", ["export", "--model", "demo", "--output", "out/demo.onnx", "--force"], [], rng),
        ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
