"""What the driver asks of RIFE weights: without torch, which takes seconds to import, and without running a pickle."""

from actors.errors import StorageError
from actors.rife.place import for_models
from actors.storage import Storage

# HDv3 alone makes its mask apart from its flow. Every format has its tensors' names as plain bytes.
_BRANCH_OF_MASK = b"0.conv2.2.weight"


def knows_the_middle_alone(weights: str, storage: Storage) -> bool:
    """Whether these are weights of HDv3, which makes no other time than 1/2; False where they cannot be read."""
    try:
        return _BRANCH_OF_MASK in for_models(storage).read_bytes(weights)
    except StorageError:  # whose reading for the clips' ids says it
        return False
