"""What an H100 and an H200 do in a second.

Measured, where nothing else is said, on one H200 (700 W, torch 2.11, cuDNN 9.19): single products, convolutions and
attentions of SVD-XT's shapes, and what the profile of a compiled evaluation and decode came to. An H100 is the same
processor with slower memory: that it computes as fast is assumed. Our own kernels were measured one by one.
"""

from dataclasses import dataclass
from math import ceil, inf

_TERA = 1e12


Steps = tuple[tuple[float, float], ...]  # up to such a size, such a rate


@dataclass(frozen=True, slots=True)
class Gpu:
    """Bytes a second."""

    memory: float
    cache: float  # the L2, which all sectors pass


def _steps(tera: dict[int, float], *, beyond: float) -> Steps:
    return (*((size, rate * _TERA) for size, rate in tera.items()), (inf, beyond * _TERA))


def _at(steps: Steps, size: int) -> float:
    return next(rate for limit, rate in steps if size <= limit)


# A copy moves 4.28 TB/s on an H200 and 3.0 on an H100. Inductor's kernels of an evaluation reached 82 % of that on the
# H200, and are assumed to on an H100; the L2's rate is assumed.
_SHARE_OF_COPY = 0.82
GPUS = {
    "H100": Gpu(memory=_SHARE_OF_COPY * 3.0 * _TERA, cache=5.0 * _TERA),
    "H200": Gpu(memory=_SHARE_OF_COPY * 4.28 * _TERA, cache=5.0 * _TERA),
}

# FLOP/s of matrix products in fp16 by the length of the sums: short ones do not hide the writing of their output.
_PRODUCTS = _steps({320: 575, 640: 626}, beyond=670)  # large squares reach 758
# The same with GEGLU behind it, our own kernel, on an H100.
_GEGLU = _steps({320: 460, 640: 581}, beyond=635)

# FLOP/s of cuDNN's channels-last convolutions by the smaller number of channels; 320 fill 2.5 of its tiles of 128. That
# of 8 and fewer is assumed.
_CONVOLUTIONS = _steps({8: 60, 128: 685, 256: 744, 320: 660, 640: 745}, beyond=770)
# Those over time, 3 x 1, of cuDNN and of our own kernel.
_OVER_TIME = _steps({128: 55, 256: 190, 320: 258, 512: 325, 640: 253}, beyond=500)
_OWN_OVER_TIME = _steps({128: 412, 256: 543, 320: 508, 512: 603, 640: 680}, beyond=655)

# FLOP/s of attention by its tokens; with a head above 256 only the memory-efficient kernel fits.
_LARGE_HEAD, _LARGE_HEAD_RATE = 256, 144 * _TERA
_LONG_ATTENTION, _LONG_ATTENTION_RATE = 2048, 450 * _TERA
_MIDDLE_ATTENTION, _MIDDLE_ATTENTION_RATE = 300, 293 * _TERA
_SHORT_ATTENTION_RATE = 131 * _TERA  # of the tiles of 64 or 128 queries and keys that are computed whole

# CLIP and the VAE's encoder in fp32, and the constant terms, for 576x1024: not compiled, and so not counted.
ENCODING_S = 0.055

# Assumed: where a reduction touches so many times what it needs, the rest of a sector has left the caches before it is
# wanted, and memory is read again; more than ten times was not believed.
_OUT_OF_CACHE, _MOST_REREAD = 3.5, 10.0


def product(length: int) -> float:
    """FLOP/s of a matrix product over sums of that length."""
    return _at(_PRODUCTS, length)


def geglu(length: int) -> float:
    """FLOP/s of a matrix product with GEGLU behind it, our own."""
    return _at(_GEGLU, length)


def convolution(channels: int) -> float:
    """FLOP/s of a convolution with so many channels, in or out, whichever are fewer."""
    return _at(_CONVOLUTIONS, channels)


def over_time(channels: int) -> float:
    """FLOP/s of cuDNN's convolution over frames."""
    return _at(_OVER_TIME, channels)


def own_over_time(channels: int) -> float:
    """FLOP/s of our own."""
    return _at(_OWN_OVER_TIME, channels)


def attention(tokens: int, head: int) -> float:
    """FLOP/s of attention among `tokens`, with heads of that width."""
    if head > _LARGE_HEAD:
        return _LARGE_HEAD_RATE
    if tokens >= _LONG_ATTENTION:
        return _LONG_ATTENTION_RATE
    if tokens >= _MIDDLE_ATTENTION:
        return _MIDDLE_ATTENTION_RATE
    keys = 128 * ceil(tokens / 128)
    queries = 64 if tokens < 64 else keys
    return _SHORT_ATTENTION_RATE * tokens**2 / (queries * keys)


def call_seconds(gpu: Gpu, flop: float, flop_per_s: float, needed_bytes: float) -> float:
    """Of a library's call, which computes or waits for memory, whichever takes longer."""
    return max(flop / flop_per_s, needed_bytes / gpu.memory)


def kernel_seconds(gpu: Gpu, needed_bytes: float, touched_bytes: float, *, is_reduction: bool) -> float:
    """Of a kernel that waits for memory or for the L2."""
    ratio = touched_bytes / needed_bytes
    reread = min(ratio, _MOST_REREAD) if is_reduction and ratio > _OUT_OF_CACHE else 1.0
    return max(reread * needed_bytes / gpu.memory, touched_bytes / gpu.cache)
