"""Settings for all tests."""

import logging

import torch

torch.set_num_threads(1)  # the models are tiny: a second thread costs more than it gives
logging.getLogger("torch.__trace").propagate = True  # pytest would attach to it else, and tracing take twice as long
