"""What torch.save wrote holds check sums, which torch.load does not look at."""

import zipfile

import pytest
import torch

from onnxplain.export.models.checkpoints import read_state
from onnxplain.runtime import OnnxplainError


@pytest.fixture
def saved(tmp_path):
    """A file, and the place of a tensor's bytes in it."""
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.arange(1000.0)}, path)
    return path, path.read_bytes().index(torch.arange(1000.0).numpy().tobytes())


def test_an_undamaged_file_is_read(saved):
    assert torch.equal(read_state(saved[0])["weight"], torch.arange(1000.0))


@pytest.mark.parametrize("offset", [0, 1999, 3999])
def test_a_flipped_bit_is_noticed(saved, offset):
    path, start = saved
    data = bytearray(path.read_bytes())
    data[start + offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        OnnxplainError, match=r"weights\.pth is damaged: the check sum of weights/data/0 in it is wrong"
    ):
        read_state(path)
    torch.load(path, weights_only=True)  # the library takes it


def test_other_damage_is_left_to_the_library(saved):
    path, _ = saved
    data = path.read_bytes()
    path.write_bytes(data[:-30] + bytes(8) + data[-22:])
    assert zipfile.is_zipfile(path)
    with pytest.raises(OnnxplainError, match="is not a checkpoint that can be read safely"):
        read_state(path)
