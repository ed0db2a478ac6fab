"""What an error says about the GPU, whichever library raises it; judged by its words, so nothing waits for torch."""

# What torch says where a CUDA context is broken; every later call fails as well, and only a new process gets a new one.
_BROKEN = "CUDA error:"
# Some libraries report in the same words that there was no memory, which breaks nothing.
_OUT_OF_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: Exception) -> bool:
    """Whether the GPU had too little memory."""
    return any(text in str(error) for text in _OUT_OF_MEMORY)


def breaks_gpu(error: Exception) -> bool:
    """Whether every later call of this process would fail as well."""
    return _BROKEN in str(error) and not is_out_of_memory(error)
