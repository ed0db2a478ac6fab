"""Types of GPUs, as Ray calls them, and how much memory they have."""

import re
from collections.abc import Iterable

_GB = 10**9

# Names as in `ray.util.accelerators`, or as Ray makes them of the driver's name of a GPU; GB from the vendors' data
# sheets. Where a name stands for several sizes, the smallest. A GPU has about as many bytes as its data sheet says GB,
# and not GiB: of an L4's 24 GB, error correction leaves 22.5 GiB.
_MEMORY_GB: dict[str, float] = {
    "K80": 12,  # each of its two
    "P4": 8,
    "P100": 12,
    "V100": 16,
    "V100S": 32,
    "T4": 16,
    "A2": 16,
    "A10": 24,
    "A10G": 24,
    "A16": 16,  # each of its four
    "A30": 24,
    "A40": 48,
    "A100": 40,
    "A100-40G": 40,
    "A100-80G": 80,
    "L4": 24,
    "L40": 48,
    "L40S": 48,
    "H100": 80,
    "GH200": 96,
    "H20": 96,
    "H200": 141,
    "B200": 180,
    "GB200": 186,
    "B300": 270,
    "GB300": 279,
    "RTX-PRO-6000": 96,
    "RTX-A6000": 48,
    "GeForce-RTX-3090": 24,
    "GeForce-RTX-4090": 24,
    "GeForce-RTX-5090": 32,
    "AMD-Instinct-MI100": 32,
    "AMD-Instinct-MI210": 64,
    "AMD-Instinct-MI250X": 64,  # each of its two
    "AMD-Instinct-MI250X-MI250": 64,
    "AMD-Instinct-MI300A": 128,
    "AMD-Instinct-MI300X-OAM": 192,
    "AMD-Instinct-MI300X-HF": 192,
    "AMD-Instinct-MI308X": 192,
    "AMD-Instinct-MI325X-OAM": 256,
    "AMD-Instinct-MI350X-OAM": 288,
    "AMD-Instinct-MI355X-OAM": 288,
    "Intel-GPU-Max-1100": 48,
    "Intel-GPU-Max-1550": 128,
}
_BRANDS = re.compile(r"^(nvidia|tesla)+")
# What Ray takes as a label's value, which a type becomes.
_NAME = re.compile(r"[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", re.ASCII)


def names() -> Iterable[str]:
    """All types that are known."""
    return _MEMORY_GB.keys()


def memory_bytes(accelerator: str) -> int | None:
    """Of one GPU; None where it is not known."""
    memory_gb = _MEMORY_GB.get(accelerator)
    return None if memory_gb is None else int(memory_gb * _GB)


def spelling_of(name: str) -> str | None:
    """Ray's own spelling of a type that is known and written otherwise (`h100`, `NVIDIA T4`); else None."""
    if name in _MEMORY_GB:
        return None
    return {_plain(known): known for known in _MEMORY_GB}.get(_BRANDS.sub("", _plain(name)))


def mistake_in(names: Iterable[str]) -> str | None:
    """What is wrong with the first name that is none of Ray's; it is told by its position, 1 for the first.

    A name that is merely unknown here is none: Ray makes one of any device's name.
    """
    for position, name in enumerate(names, start=1):
        if spelling := spelling_of(name):
            return f"Ray has no accelerator type as in entry {position}; did you mean {spelling!r}?"
        if not _NAME.fullmatch(name):
            return f"entry {position} is no accelerator type, which is a name such as H100 or GeForce-RTX-4090"
    return None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
