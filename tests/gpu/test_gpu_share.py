"""A process that keeps to its share of the GPU: what goes beyond is refused as where the GPU is full."""

import torch

from actors.gpu_errors import breaks_gpu, is_out_of_memory
from actors.gpu_share import GpuShares

HALF = GpuShares(generate_gpus=0.5, generate_actors=2, finish_gpus=0.0, finish_actors=1)


def test_beyond_its_share_torch_says_out_of_memory(gpu: torch.device) -> None:
    try:
        limit = HALF.apply("generate")
        assert limit is not None
        fits = torch.empty(limit // 2, dtype=torch.uint8, device=gpu)
        del fits
        error = None
        try:
            torch.empty(limit + 2**20, dtype=torch.uint8, device=gpu)
        except torch.OutOfMemoryError as refusal:
            error = refusal
        assert error is not None, "the limit was not kept"
        assert is_out_of_memory(error)
        assert not breaks_gpu(error)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
