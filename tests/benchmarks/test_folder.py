"""The benchmark of folders: real files, and loops that compute the same."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import files, folder
from benchmarks.folder import BARE, DRAWN, EXPLAINED, Setting
from onnxplain.commands.products import Written
from onnxplain.export import Backbone
from onnxplain.runtime import Preprocessing
from tests.reference import variants


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    place = tmp_path_factory.mktemp("folder")
    size = Preprocessing(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    labels = tuple(map(str, range(variants.CLASSES)))
    backbone = Backbone("tiny", variants.build("plain").float(), size, labels, "softmax", "random", None)
    files.write_artifact(backbone, place / "tiny.onnx", passes=["gradient", "relevance"])
    return Setting.of(place / "tiny.onnx", folder.write_images(place, 10))


def test_images_are_different_photographs_in_two_formats(setting: Setting) -> None:
    opened = [Image.open(file) for file in setting.files]
    assert {(image.format, image.mode, image.size) for image in opened} == {
        (kind, "RGB", folder.SIZE) for kind in ("JPEG", "PNG")
    }
    arrays = [np.asarray(image, float) for image in opened]
    assert all(array.std() > 10 for array in arrays)
    pairs = [(a, b) for index, a in enumerate(arrays) for b in arrays[:index]]
    assert min(np.abs(a - b).mean() for a, b in pairs) > 3


def test_the_bare_loop_computes_what_the_command_does(setting: Setting) -> None:
    """In batches of the same size, the last one smaller; and the command's overlays are written."""
    assert setting.method == "transformer_attribution" and setting.batch == 8
    runs = folder.bare(setting, folder.batches_of(setting))
    assert [len(logits) for logits, *_ in runs] == [8, 2] and len(runs[0]) == 2 + len(setting.outputs)
    scores = np.concatenate([logits.max(1) for logits, *_ in runs])
    explanations = [outcome.value[setting.method][0] for outcome in folder.outcomes(setting)]
    np.testing.assert_allclose([item.score for item in explanations], scores, rtol=1e-6)


def test_the_file_is_opened_as_the_command_opens_it(setting: Setting) -> None:
    """Packed for ten images, not for nine."""
    assert setting.explainer.path is not None
    few = Setting.of(setting.explainer.path, setting.files[:9])
    assert [item.explainer.__reduce__()[1][-1] for item in (setting, few)] == [True, False]


def test_all_loops_are_measured(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    write = folder.Figures.write

    def counting(*given: Any) -> list[Written]:
        files = write(*given)
        written.extend(files)
        return files

    monkeypatch.setattr(folder.Figures, "write", counting)
    found = folder.measure(setting, 2)
    assert list(found) == [BARE, EXPLAINED, DRAWN]
    assert all(record["runs"] == 2 and record["seconds"] > 0 for record in found.values())
    assert len(written) == 3 * len(setting.files)  # and a first time that does not count


def test_shares_of_the_bare_loop() -> None:
    seconds = {BARE: 2.0, EXPLAINED: 2.5, DRAWN: 4.0}
    section = folder.table({name: {"seconds": each, "runs": 5} for name, each in seconds.items()}, 20, "title")
    assert [row[1:3] for row in section.rows] == [["10", "1"], ["8", "0.8"], ["5", "0.5"]]
