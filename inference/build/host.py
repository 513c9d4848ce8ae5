"""Which computer a build ran on, as far as it shows in a model's last bits."""

from __future__ import annotations

_TELLING = (
    "amx_int8",
    "avx512_vnni",
    "avx_vnni",
    "avx512f",
    "avx2",
    "sse4_1",
    "sve",
    "i8mm",
    "asimddp",
    "asimd",
)


def instruction_set(machine: str, cpuinfo: str) -> str:
    """ "x86_64 avx2", "aarch64 asimddp asimd" and the like, from the machine's name and the text of /proc/cpuinfo."""
    lines = [line.partition(":")[2].split() for line in cpuinfo.splitlines() if line.startswith(("flags", "Features"))]
    present = set(lines[0]) if lines else set()
    return " ".join([machine, *(flag for flag in _TELLING if flag in present)])
