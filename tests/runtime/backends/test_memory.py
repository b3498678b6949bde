"""What the C library keeps of freed memory."""

import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
from onnxplain.runtime.backends.memory import give_memory_back, keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 // 2**20

if {keep}:
    keep_freed_memory()
before = resident()
arrays = [np.ones(2**24) for _ in range(4)]  # of 128 MiB each
assert resident() - before >= 500
del arrays
kept = resident() - before
give_memory_back()
print(kept, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such function")
@pytest.mark.parametrize("keep", [False, True])
def test_freed_memory_is_kept_until_it_is_given_back(keep: bool) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(keep=keep)], capture_output=True, text=True, check=True)
    kept, left = map(int, done.stdout.split())
    assert (kept >= 500) is keep and left < 100
