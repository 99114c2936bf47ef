"""Whether a program was compiled or came out of the compilation cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
import jax
from harness_jax.programs import compiled_anew

print(compiled_anew())
jax.config.update("jax_enable_compilation_cache", True)
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
program = jax.jit(lambda x: 2 * x + 1)
for _ in range(2):
    program(1.0).block_until_ready()
    print(compiled_anew())
    jax.clear_caches()
"""


def test_a_program_in_the_cache_is_not_compiled_anew(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    unknown, first, second = done.stdout.split()
    assert unknown == "None"
    assert int(first) >= 1
    assert second == first
