"""Type promotion, done without PyTorch's pass for it: against PyTorch's numbers, and its rules."""

import onnx_ir as ir
import pytest
import torch
from torch import fx

from onnxplain.export.formats.distinct_calls import DistinctCalls
from onnxplain.export.formats.promotion import EXACT, may_promote, with_floats
from onnxplain.export.formats.recording import flat_program
from onnxplain.export.formats.translation import to_onnx
from tests.export.formats.test_recording import SIZE, assert_right, fused
