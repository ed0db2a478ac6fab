"""What RIFE needs of a GPU's memory; reckoned without torch, for the driver."""

# The most that tensors take in a network call, for each pixel of each pair: counted by `python -m benchmarks.memory`
# for RIFE 4.25 in fp32. In fp16 none takes more, and of the other versions 4.26.heavy alone. 4.0 to 4.6 and HDv3 take
# half.
COUNTED_BYTES_PER_PIXEL = 808
HEAVY, HEAVY_BYTES_PER_PIXEL = "4.26.heavy", 1304
# A GPU takes more than is counted (work space, copies into another layout): of SVD, 21.8 GB were measured where 16.9
# are counted (benchmarks/RESULTS.md). RIFE itself was not measured.
_MEASURED_PER_COUNTED = 1.3
# Weights, and the frames of a clip that wait with their features.
_FIXED_BYTES = 200_000_000


def needed_bytes(width: int, height: int, pairs_per_batch: int, counted: int = COUNTED_BYTES_PER_PIXEL) -> int:
    """Of torch's allocator, for frames of this size (pixels); with less, a call takes fewer pairs.

    `counted`: bytes for each pixel of each pair, by the version (`actors.rife.peek`).
    """
    per_pair = width * height * counted * _MEASURED_PER_COUNTED
    return int(per_pair * pairs_per_batch) + _FIXED_BYTES
