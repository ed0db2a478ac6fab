"""What SVD needs of a GPU's memory in each way of making clips; reckoned without torch, for the driver.

Counted by `python -m benchmarks.memory` for the full-size networks in half precision, and scaled to what an H200 and an
H100 took where that was measured (benchmarks/RESULTS.md): 21.8 GB resident, 6.0 GB sequential.
"""

from typing import NamedTuple

from actors.generators.base import MemoryWay

_GB = 10**9


class _Counted(NamedTuple):
    """Activations at their peak, GB: in general, and for each megapixel of a clip."""

    fixed: float
    per_megapixel: float

    def of(self, megapixels: float) -> float:
        return self.fixed + self.per_megapixel * megapixels


_WEIGHTS, _UNET_WEIGHTS, _DECODER_WEIGHTS = 4.6, 3.1, 0.15  # GB; fp16, but for the encoder of images
_UNET, _UNET_IN_PIECES = _Counted(1.12, 0.581), _Counted(1.12, 0.381)  # with guidance; in pieces: 8
_DECODER, _DECODER_IN_CHUNKS = _Counted(3.6, 0.6), _Counted(0.0, 1.03)  # chunks: of the frames in one
# 21.8 measured where 16.9 are counted. Sequential, 6.0 were measured where 6.7 are counted.
_MEASURED_PER_COUNTED = 1.29
_CHUNK_FRAMES = 8  # `actors.svd.animator._CHUNK_FRAMES`
_BYTES_PER_VALUE = {"fp32": 2.0, "fp16": 1.0, "bf16": 1.0}  # of half precision's


def memory_ways(
    size: tuple[int, int], num_frames: int, *, first: str, chunk_frames: int | None, precision: str, tightens: bool
) -> list[MemoryWay]:
    """From the way that the settings ask for to the tightest that a worker goes on to by itself.

    The names are those of the clips' `memory_mode` (`actors.svd.animator.MemoryMode`). For the full-size networks: a
    smaller checkpoint needs less.

    Args:
        size: width and height of the clips, pixels.
        first: `model.memory`.
        chunk_frames: `model.decode_chunk_frames`.
        tightens: whether weights may leave the GPU.
    """
    a_frame = size[0] * size[1] / 1e6
    unet, in_pieces = (part.of(a_frame * num_frames) for part in (_UNET, _UNET_IN_PIECES))
    whole = _DECODER.of(a_frame * num_frames)
    in_chunks = _DECODER_IN_CHUNKS.of(a_frame * min(chunk_frames or _CHUNK_FRAMES, num_frames))
    counted = {
        "resident": _WEIGHTS + max(unet, whole),
        "chunked": _WEIGHTS + max(unet, in_chunks),
        "offload": max(_UNET_WEIGHTS + unet, _DECODER_WEIGHTS + in_chunks),
        "sequential": max(in_pieces, in_chunks),
    }
    names = list(counted)
    begins = "chunked" if first == "resident" and chunk_frames else first
    names = [name for name in names[names.index(begins) :] if tightens or name in ("resident", "chunked")]
    factors = {name: 1.0 if name == "sequential" else _MEASURED_PER_COUNTED for name in names}
    return [MemoryWay(name, int(counted[name] * factors[name] * _BYTES_PER_VALUE[precision] * _GB)) for name in names]
