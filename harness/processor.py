"""The processor that this process runs on."""

from __future__ import annotations

import platform
from pathlib import Path

__all__ = ["processor"]

_ISA = (
    *("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"),
    *("amx_tile", "amx_bf16", "asimd", "sve"),
)


def processor() -> tuple[str, str]:
    """Name of the processor, and its instruction sets that change results."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine(), ""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    name = fields.get("model name") or fields.get("cpu part") or platform.machine()
    return name, " ".join(flag for flag in _ISA if flag in flags)
