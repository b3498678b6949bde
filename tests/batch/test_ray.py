"""On Ray: the same files as without, and ExplainBatch in a pipeline of one's own."""

import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'onnxplain[ray]'")

from onnxplain.batch import Opening, Output, settings_of  # noqa: E402
from onnxplain.batch.items import Item  # noqa: E402
from onnxplain.batch.on_ray import LOCAL, explain_on_ray  # noqa: E402
from onnxplain.contract.errors import OnnxplainError  # noqa: E402
from onnxplain.demo import ARTIFACT  # noqa: E402
from onnxplain.runtime import Explainer  # noqa: E402
from tests.helpers.command_line import run  # noqa: E402
from tests.helpers.doc_blocks import ROOT, blocks  # noqa: E402


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this machine, with two CPUs."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


def parts(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("part-*.parquet")}


def test_a_cluster_writes_the_same_files(folder, cluster):
    Path("images/00.png").unlink()
    Path("images/00.png").write_text("no image")
    for output, options in (("alone", []), ("ray", ["--ray", "--jobs", 2])):
        arguments = "--output", output, "--shard-size", 4, "--method", "transformer_attribution", *options
        done = run("batch", ARTIFACT, "images", *arguments)
        assert done.exit_code == 2, done.output
    assert len(parts("alone")) == 8 and parts("ray") == parts("alone")


def test_an_error_of_a_worker_is_told(folder, cluster):
    settings = settings_of(ARTIFACT, Explainer(ARTIFACT, "cpu").metadata, None, -1, 5, 10**6, False, None)
    output = Output(Path("out"))
    with output.begun(settings):
        output.add([Item("00", str(Path("images/00.png").absolute()))], 10)
        gone = replace(settings, artifact=str(Path("gone.onnx").absolute()))
        with pytest.raises(OnnxplainError, match=r"there is no artifact .*gone\.onnx"):
            list(explain_on_ray(gone, Opening("cpu"), output.folder, output.left(), 1, LOCAL))


def test_there_is_no_cluster(folder, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for given, message in (
            (address, f"there is no Ray cluster at {address}: Connection refused"),
            (f"ray://{address}", f"there is no Ray cluster at ray://{address}: Connection refused"),
            ("here", "--ray must be auto, local, HOST:PORT or ray://HOST:PORT, got 'here'"),
        ):
            done = run("batch", ARTIFACT, "images", "--output", "out", f"--ray={given}")
            assert (done.exit_code, message in done.output) == (2, True), done.output


def explained(batch, **arguments):
    from onnxplain.ray import ExplainBatch

    return ExplainBatch(ARTIFACT, device="cpu", **arguments)(batch)


def test_columns_say_what_explain_says(folder):
    paths = sorted(map(str, Path("images").iterdir()))[:5]
    explainer = Explainer(ARTIFACT, "cpu")
    found = explained({"path": np.array(paths, object), "id": np.arange(5)}, method="legrad", target="four", maps=True)
    assert found["id"].tolist() == list(range(5))
    for row, path in enumerate(paths):
        right = explainer.explain(path, "four", "legrad")
        said = right.to_dict()
        assert (found["target"][row], found["label"][row], found["error"][row]) == (4, "four", "")
        assert found["score"][row] == pytest.approx(right.score, rel=1e-5)
        assert found["probability"][row] == pytest.approx(right.probability, rel=1e-5)
        assert found["predictions"][row].tolist() == [index for index, _, _ in right.predictions]
        np.testing.assert_allclose(found["probabilities"][row], [share for _, _, share in right.predictions], rtol=1e-5)
        assert found["maximum"][row].tolist() == said["maximum"]
        assert found["upper_fifth"][row].tolist() == said["upper_fifth"]
        for name in ("tokens", "input_heatmap"):
            atol = 1e-6 * np.abs(right.tokens).max()
            np.testing.assert_allclose(found[name][row], getattr(right, name), rtol=1e-5, atol=atol)


def test_bad_images_have_an_error(folder):
    found = explained({"bytes": np.array([b"no image", Path("images/01.png").read_bytes(), None], object)})
    assert found["error"][1] == "" and found["target"][1] >= 0
    for row in (0, 2):
        assert "image" in found["error"][row]
        assert found["target"][row] == -1 and found["label"][row] == "" and np.isnan(found["tokens"][row]).all()
        assert np.isnan(found["score"][row]) and found["maximum"][row].tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        (["name"], {}, "no column image or bytes or path with images, but name; say which it is: `column`"),
        (["path"], {"column": "x"}, "no column x with images, but path"),
        (["path", "label"], {}, "has a column label already"),
        (["path"], {"target": "x"}, "there is no label 'x'"),
        (["path"], {"target": [0, 1]}, r"explains one class of each image, got \[0, 1\]"),
        (["path"], {"threads": 0}, "`threads` must be an integer from 1"),
        (["path"], {"method": "x"}, "there is no method"),
    ],
)
def test_mistakes_are_told(folder, columns, arguments, message):
    with pytest.raises(OnnxplainError, match=message):
        explained({name: np.array(["images/01.png"], object) for name in columns}, **arguments)


def test_the_script_of_the_documents(folder):
    (script,) = [code for language, code in blocks((ROOT / "docs" / "scale.md").read_text()) if "ExplainBatch" in code]
    assert script.count("\n") <= 15
    Path("vit.onnx").symlink_to(ARTIFACT)
    Path("photos").symlink_to("images")
    Path("script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    table = pq.read_table("explained")
    assert len(table) == 30 and set(table["error"].to_pylist()) == {""}
