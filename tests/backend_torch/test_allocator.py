"""Freed memory is kept, so taking it again costs no page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from harness_torch.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def step():
    # 40 blocks of 4 MiB, freed together.
    return sum(float(kept[0]) for kept in [torch.ones(2**20) for _ in range(40)])

assert keep_freed_memory()
for _ in range(20):
    before = faults()
    step()
    print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to keep memory")
def test_memory_is_taken_again_without_faults() -> None:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [int(line) for line in done.stdout.split()]
    # Each of the 40,960 pages at first; none once the blocks have found their places. (Left to
    # itself, glibc gives the pages back after every step, or not, as it happens.)
    assert found[0] > 10_000
    assert sorted(found)[10] < 100
