"""What an H100 and an H200 do in a second.

Measured: large half-precision matrix products reach 798 TFLOP/s, a copy moves 3.0 TB/s on an H100 and 4.3 on an H200.
All else is assumed from what such cards are known to reach, and marked so; a real card corrects it.
"""

from dataclasses import dataclass
from math import ceil

_TERA = 1e12


@dataclass(frozen=True, slots=True)
class Gpu:
    """Bytes a second."""

    memory: float
    cache: float  # the L2, which all sectors pass


# Assumed: kernels that add, scale and normalise reach 93 % of a copy's rate. The L2's rate is assumed as well.
GPUS = {
    "H100": Gpu(memory=2.8 * _TERA, cache=5.0 * _TERA),
    "H200": Gpu(memory=4.0 * _TERA, cache=5.0 * _TERA),
}

# Assumed, FLOP/s by the length of the sums: short ones do not hide the writing of their output.
_PRODUCTS = ((320, 450 * _TERA), (640, 560 * _TERA))
_LONG_PRODUCTS = 650 * _TERA

# Assumed, FLOP/s of cuDNN's channels-last convolutions by the smaller number of channels.
_CONVOLUTIONS = ((8, 60 * _TERA), (128, 330 * _TERA), (320, 420 * _TERA))
_WIDE_CONVOLUTIONS = 480 * _TERA

# Assumed, FLOP/s of attention by its tokens; with a head above 256 only the memory-efficient kernel fits.
_LARGE_HEAD, _LARGE_HEAD_RATE = 256, 90 * _TERA
_LONG_ATTENTION, _LONG_ATTENTION_RATE = 2048, 430 * _TERA
_MIDDLE_ATTENTION, _MIDDLE_ATTENTION_RATE = 300, 380 * _TERA
_SHORT_ATTENTION_RATE = 300 * _TERA  # of the tiles of 64 or 128 queries and keys that are computed whole

# Assumed: fp32 of the two encoders, PyTorch's defaults (convolutions in TF32, matrix products not).
ENCODING = 30 * _TERA

# Assumed: where a reduction touches so many times what it needs, the rest of a sector has left the caches before it is
# wanted, and memory is read again; more than ten times was not believed.
_OUT_OF_CACHE, _MOST_REREAD = 3.5, 10.0


def product(length: int) -> float:
    """FLOP/s of a matrix product over sums of that length."""
    return next((rate for limit, rate in _PRODUCTS if length <= limit), _LONG_PRODUCTS)


def convolution(channels: int) -> float:
    """FLOP/s of a convolution with so many channels, in or out, whichever are fewer."""
    return next((rate for limit, rate in _CONVOLUTIONS if channels <= limit), _WIDE_CONVOLUTIONS)


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
