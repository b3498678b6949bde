"""Settings for all tests."""

import logging
import os

os.environ["OMP_NUM_THREADS"] = "1"  # PyTorch's and NumPy's, in the processes that tests start as well

import onnxruntime


class _OneThread(onnxruntime.SessionOptions):
    """What a session gets that is told no number of threads."""

    def __init__(self) -> None:
        super().__init__()
        self.intra_op_num_threads = 1


# The models are tiny: a second thread costs more than it gives, of onnxruntime's many times as it waits by running
onnxruntime.SessionOptions = _OneThread
logging.getLogger("torch.__trace").propagate = True  # pytest would attach to it else, and tracing take twice as long
