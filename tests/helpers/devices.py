"""Devices to run a test on: the CPU, and a CUDA device where there is one."""

import pytest
import torch

CUDA = pytest.param(
    "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]
)
DEVICES = ("cpu", CUDA)
