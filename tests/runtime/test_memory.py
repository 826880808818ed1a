"""Memory that is kept: the pages of a large array are not asked for again."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource
import numpy as np
from cryojax_seg.runtime import keep_memory
kept = keep_memory() if {keep} else True
np.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    np.ones(2**24)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

GIVEN_BACK = """
import numpy as np
from cryojax_seg.runtime import keep_memory
assert keep_memory(2**20)
np.ones(2**24)
print(int(open("/proc/self/statm").read().split()[1]) * 4096)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_arrays_reuse_the_memory_of_those_before():
    faults = {}
    for keep in (True, False):
        run = [sys.executable, "-c", CODE.format(keep=keep)]
        kept, count = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
        assert kept == "True"
        faults[keep] = int(count)
    assert 10 * faults[True] < faults[False]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_more_than_the_limit_is_given_back():
    run = [sys.executable, "-c", GIVEN_BACK]
    held = int(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    assert held < 2**27  # the bytes of the array that was freed
