"""The command batch: its rows against those of explain, ways to run it, and that it goes on where it was."""

import hashlib
import io
import json
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from onnxplain.batch import Opening, Output, local, settings_of
from onnxplain.batch.items import Item
from onnxplain.batch.journal import Journal
from onnxplain.batch.rows import RowFormat
from onnxplain.batch.worker import Worker
from onnxplain.contract.errors import OnnxplainError
from onnxplain.demo import ARTIFACT
from onnxplain.runtime import Explainer, pipeline
from onnxplain.runtime.explanation import TOP_K
from onnxplain.runtime.images.loading import MAX_PIXELS
from tests.helpers.command_line import run
from tests.helpers.doc_blocks import ROOT, blocks

IMAGES = 30  # of conftest.py


def batch(*arguments, inputs=("images",), status=0):
    done = run("batch", ARTIFACT, *inputs, "--output", "out", "--shard-size", 8, *arguments)
    assert done.exit_code == status, done.output
    return done


def rows(folder="out"):
    return pq.read_table(folder).to_pylist()


def parts(folder="out"):
    return {path.name: path.read_bytes() for path in Path(folder).glob("part-*.parquet")}


@pytest.mark.parametrize(
    ("images", "size"), [(1, 8), (256, 8), (257, 16), (20_000, 632), (32_000, 1000), (90_000, 1000)]
)
def test_shards_are_small_where_there_are_few_images(tmp_path, images, size):
    output = Output(tmp_path / "out")
    with output.begun(settings_of_output("rollout")):
        output.add(Item(f"{number}", "/x") for number in range(images))
        *whole, last = [shard.images for shard in output.shards()]
    assert set(whole) <= {size} and 0 < last <= size and sum(whole) + last == images


def test_rows_say_what_explain_says(folder):
    batch("--method", "legrad", "--maps", "--top-k", 3, "--target", "four")
    explainer = Explainer(ARTIFACT, "cpu", top_k=3)
    found = rows()
    assert [row["key"] for row in found] == sorted(map(str, Path("images").iterdir()))
    for row in found:
        right = explainer.explain(row["key"], "four", "legrad")
        said = right.to_dict()
        assert row["digest"] == hashlib.sha256(Path(row["key"]).read_bytes()).hexdigest()
        assert (row["target"], row["label"], row["error"], row["error_kind"]) == (4, "four", None, None)
        assert row["score"] == pytest.approx(right.score, rel=1e-5)
        assert row["scale"] == pytest.approx(max(np.abs(right.tokens).max(), right.input_heatmap.max()), rel=1e-4)
        assert row["probability"] == pytest.approx(right.probability, rel=1e-5)
        assert [each["index"] for each in row["predictions"]] == [index for index, _, _ in right.predictions]
        assert [each["label"] for each in row["predictions"]] == [label for _, label, _ in right.predictions]
        assert [row["maximum"]["x"], row["maximum"]["y"]] == said["maximum"]
        assert [row["upper_fifth"][side] for side in ("left", "top", "right", "bottom")] == said["upper_fifth"]
        assert [row["seen"][side] for side in ("left", "top", "right", "bottom")] == said["seen"]
        assert (row["width"], row["height"]) == (96, 96)
        for name, shape in (("tokens", (12, 12)), ("input_heatmap", (96, 96))):
            values = np.array(row[name], np.float32).reshape(shape) * row["scale"]
            most = np.abs(right.tokens).max()  # float16 keeps 11 bits of shares of it, and of the least a step of 2^-24
            np.testing.assert_allclose(values, getattr(right, name), rtol=2**-10, atol=most * 2**-20)


def test_files_say_what_their_rows_are(folder):
    batch("--method", "rollout:head_fusion=max")
    said = json.loads(pq.read_schema("out/part-000000.parquet").metadata[b"onnxplain"])
    assert said["method"] == "rollout:head_fusion=max"
    assert said["patch_grid"] == [12, 12] and said["input_size"] == [96, 96]
    assert said["digest"] == ARTIFACT.read_bytes()[-64:].decode()


def test_the_example_of_reading(folder):
    run("batch", ARTIFACT, "images", "--output", "explained", "--method", "rollout")
    (code,) = [code for language, code in blocks((ROOT / "docs/scale.md").read_text()) if "read_table" in code]
    scope = {}
    exec(code, scope)
    right = Explainer(ARTIFACT, "cpu").explain("images/00.png", method="rollout").tokens
    np.testing.assert_allclose(scope["tokens"], right, rtol=2**-10, atol=np.abs(right).max() * 2**-20)


def test_a_thumbnail_is_the_overlay(folder):
    batch("--thumbnails", 64, "--limit", 1)
    (row,) = rows()
    thumbnail = np.asarray(Image.open(io.BytesIO(row["thumbnail"])), np.float32)
    overlay = Explainer(ARTIFACT, "cpu").explain(row["key"]).overlay(max_size=64)
    assert thumbnail.shape == (64, 64, 3)
    assert np.abs(thumbnail - np.asarray(overlay)).mean() < 8


def test_several_processes_write_the_same_files(folder):
    batch("--method", "transformer_attribution")
    alone = parts()
    Path("out").rename("alone")
    batch("--method", "transformer_attribution", "--jobs", 2)
    assert parts() == alone
    assert list(alone) and not list(Path("out/_unfinished").iterdir())


@pytest.mark.parametrize("groups", [1, 2])
def test_what_was_interrupted_goes_on_to_the_same_files(folder, groups):
    batch("--method", "legrad", "--shard-size", 30)
    whole = parts()
    Path("out/part-000000.parquet").unlink()
    settings, output = settings_of_output("legrad"), Output(Path("out"))
    answers = iter([False] * (groups - 1) + [True])
    worker = Worker(settings, Opening("cpu"), output.folder, lambda: next(answers))
    assert worker.explain(output.shards()[0]) is False
    assert output.images_begun() == 8 * groups
    assert not parts()
    with computed() as counts:
        batch("--method", "legrad", "--shard-size", 30)
    assert parts() == whole
    assert counts.total() == 30 - 8 * groups


def test_an_image_that_ends_processes_is_given_up(folder):
    batch("--limit", 20, "--shard-size", 20)
    right = rows()
    Path("out/part-000000.parquet").unlink()
    schema = RowFormat(Explainer(ARTIFACT).metadata, settings_of_output(None)).journal_schema
    for begun in ((0, 1, 2, 3), (1, 3), (3,)):  # of processes that were killed: they have not closed their journals
        journal = Journal(Path("out/_unfinished"), 0, schema)
        for number in begun:
            journal.begin(number)
    batch("--limit", 20, "--shard-size", 20, status=2)
    for number, (row, before) in enumerate(zip(rows(), right, strict=True)):
        if number in (1, 3):
            assert row["error_kind"] == "process ended" and row["key"] in row["error"]
            assert row["target"] is None and row["tokens"] is None
        else:
            assert row["error"] is None and row["target"] == before["target"]
            np.testing.assert_allclose(row["tokens"], before["tokens"], atol=2e-3)


KILLER = f"""
import os, sys
sys.path.insert(0, {str(ROOT.parent)!r})
from onnxplain.cli import app
from onnxplain.runtime import pipeline

explanations = pipeline.explanations

def killing(artifact, image, *rest):
    if image.image.size == (97, 31):
        os._exit(9)
    return explanations(artifact, image, *rest)

pipeline.explanations = killing
app()
"""


def test_an_image_that_ends_each_process_is_found(folder):
    Path("images/12.png").unlink()
    Image.new("RGB", (97, 31)).save("images/12.png")
    command = "batch", ARTIFACT, "images", "--output", "out", "--shard-size", "24", "--limit", "24"
    statuses = [
        subprocess.run([sys.executable, "-c", KILLER, *map(str, command)], capture_output=True).returncode
        for _ in range(3)
    ]
    assert statuses == [9, 9, 2]
    assert [(Path(row["key"]).name, row["error_kind"]) for row in rows() if row["error"]] == [
        ("12.png", "process ended")
    ]


def test_a_shard_that_is_finished_is_not_computed_again(folder):
    batch()
    output = Output(Path("out"))
    before = parts()
    with computed() as counts:
        worker = Worker(settings_of_output(None), Opening("cpu"), output.folder)
        assert all(worker.explain(shard) for shard in output.shards())  # as Ray does where a result was lost
    assert not counts and parts() == before


def test_journals_of_finished_shards_are_removed(folder):
    batch()
    schema = RowFormat(Explainer(ARTIFACT).metadata, settings_of_output(None)).journal_schema
    Journal(Path("out/_unfinished"), 1, schema).begin(3)  # of a process that was killed when it had written the shard
    batch()
    assert not list(Path("out/_unfinished").iterdir())


def test_processes_that_end_again_and_again(folder, monkeypatch, capfd):
    monkeypatch.setattr(local, "_start", int)  # which raises, so that each process ends before its first shard
    assert "the processes are ended again and again" in batch("--jobs", 2, status=2).stderr
    batch()


def test_bad_images_have_rows(folder):
    names = sorted(path.name for path in Path("images").iterdir())
    Path("images/00.png").unlink()
    Path("images/00.png").write_bytes(Path("images/01.png").read_bytes()[:500])
    Path("images/02.png").unlink()
    Path("images/02.png").write_text("no image")
    Path("images/03.png").unlink()
    Image.new("1", (4000, 4000)).save("images/03.png")
    Path("images/04.png").unlink()
    Path("images/04.png").symlink_to("nowhere")
    done = batch("--max-pixels", 10**6, status=2)
    found = {Path(row["key"]).name: row for row in rows()}
    assert sorted(found) == names
    kinds = {name: row["error_kind"] for name, row in found.items() if row["error"]}
    assert kinds == {"00.png": "damaged", "02.png": "not an image", "03.png": "too large", "04.png": "missing"}
    for name in kinds:
        assert found[name]["error"].count(name) == 1 and found[name]["score"] is None
        assert kinds[name] in done.output
    assert found["02.png"]["digest"] == hashlib.sha256(b"no image").hexdigest()


def test_what_is_done_is_not_computed_again(folder):
    batch("--limit", 8)
    with computed() as counts:
        batch()
    assert counts.total() == IMAGES - 8 and len(rows()) == IMAGES
    before = parts()
    Path("images/new.png").write_bytes(Path("images/03.png").read_bytes())
    with computed() as counts:
        done = batch("--json")
    assert counts.total() == 1 and parts().items() > before.items()
    assert [row["key"] for row in rows()][-1] == "images/new.png"
    said = json.loads(done.stdout)
    assert (said["images"], said["computed"], said["errors"]) == (IMAGES + 1, 1, {})
    assert said["classes"] == Counter(row["label"] for row in rows())


def test_a_damaged_file_is_written_again(folder):
    batch()
    before = parts()
    path = Path("out/part-000001.parquet")
    path.write_bytes(path.read_bytes()[:1000])
    batch()
    assert parts() == before
    content = bytearray(path.read_bytes())
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    label = next(column for column in columns if column.path_in_schema == "label")
    content[label.dictionary_page_offset + label.total_compressed_size - 1] ^= 255
    path.write_bytes(content)
    assert "part-000001.parquet is damaged, remove it" in batch(status=2).output


def test_a_sample_is_always_the_same_and_grows_with_the_folder(folder):
    batch("--sample", 10)
    sample = {row["key"] for row in rows()}
    assert len(sample) == 10 and sample != {str(path) for path in sorted(Path("images").iterdir())[:10]}
    Path("out").rename("before")
    Path("images/another.png").write_bytes(Path("images/03.png").read_bytes())
    batch("--sample", 10)
    assert len(sample - {row["key"] for row in rows()}) <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "rollout"], "begun with --method legrad, not rollout"),
        (["--target", "3"], "begun with --target -1, not 3"),
        (["--maps"], "begun with --maps False, not True"),
        (["--limit", "3", "--sample", "3"], "exclude each other"),
        (["--column", "bytes"], "--column is for Parquet files"),
        (["--method", "nothing"], "there is no method"),
        (["--target", "nothing"], "there is no label"),
    ],
)
def test_mistakes_are_told(folder, arguments, message):
    batch("--method", "legrad", "--limit", 1)
    before = parts()
    options = arguments if "--method" in arguments else ["--method", "legrad", *arguments]
    done = batch(*options, status=2)
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert parts() == before


@pytest.mark.parametrize("inputs", [["empty"], ["no_such_folder"], ["images", "nothing/*.png"], ["a.txt"]])
def test_mistakes_in_what_is_to_be_explained_leave_no_folder(folder, inputs):
    Path("empty").mkdir()
    Path("a.txt").write_text("\n")
    assert batch(inputs=inputs, status=2).stderr.count("\n") == 1
    assert not Path("out").exists()


def test_a_folder_that_cannot_be_written(folder):
    Path("out").write_text("a file")
    assert "Not a directory; give another --output" in batch(status=2).stderr
    assert Path("out").read_text() == "a file"


def test_two_batches_do_not_write_into_one_folder(folder):
    batch("--limit", 1)
    settings = settings_of_output(None)
    with Output(Path("out")).begun(settings):
        assert "another process writes into" in batch(status=2).stderr


def test_a_folder_of_other_things_is_left_alone(folder):
    Path("out").mkdir()
    Path("out/letter.txt").write_text("dear")
    assert "holds other files" in batch(status=2).stderr
    assert [path.name for path in Path("out").iterdir()] == ["letter.txt"]


def test_a_folder_whose_name_is_not_utf_8_is_refused(folder):
    there = Output(Path("out\udcff"))
    with pytest.raises(OnnxplainError, match="which is not UTF-8"), there.begun(settings_of_output(None)):
        pass
    assert not there.folder.exists()


def test_the_disk_is_full(folder):
    batch("--method", "legrad")
    whole = parts()
    Path("out").rename("whole")
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); "
        f"sys.path.insert(0, {str(ROOT.parent)!r}); from onnxplain.cli import app; app()"
    )
    arguments = "batch", ARTIFACT, "images", "--output", "out", "--shard-size", 8, "--method", "legrad"
    done = subprocess.run([sys.executable, "-c", limited, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 2 and "cannot write into" in done.stderr and "Traceback" not in done.stderr
    assert not any(path.stat().st_size == 0 for path in Path("out").glob("part-*"))
    batch("--method", "legrad")
    assert parts() == whole


def settings_of_output(method):
    return settings_of(
        ARTIFACT, Explainer(ARTIFACT, "cpu").metadata, method, -1, TOP_K, MAX_PIXELS, maps=False, thumbnails=None
    )


@contextmanager
def computed():
    """How often each image is computed within the block, by the digest of what the graph takes of it."""
    counts, run_in_parts = Counter(), pipeline.run_in_parts

    def counted(artifact, images, *rest):
        counts.update(hashlib.sha256(image.tobytes()).hexdigest() for image in images)
        return run_in_parts(artifact, images, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "run_in_parts", counted)
        yield counts
