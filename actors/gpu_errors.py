"""What an error says about the GPU, whichever library raises it; judged by its words, so nothing waits for torch."""

# Where a CUDA context is broken, every later call fails as well, and only a new process gets a new one. In the words of
# torch, of its launcher of compiled kernels, of Triton's own, and of cuDNN.
_BROKEN = ("CUDA error:", "CUDA driver error:", "Triton Error [CUDA]:", "CUDNN_STATUS_EXECUTION_FAILED")
# Some libraries report in the same words that there was no memory, which breaks nothing. The last is what torch says of
# a convolution for none of whose algorithms there was room (`try_configs` in its `Conv_v8.cpp`).
_OUT_OF_MEMORY = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "unable to find an engine to execute this computation",
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the GPU had too little memory."""
    return any(text in str(error) for text in _OUT_OF_MEMORY)


def breaks_gpu(error: Exception) -> bool:
    """Whether every later call of this process would fail as well."""
    return any(text in str(error) for text in _BROKEN) and not is_out_of_memory(error)
