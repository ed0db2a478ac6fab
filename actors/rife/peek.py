"""What the driver asks of RIFE weights: without torch, which takes seconds to import, and without running a pickle."""

from actors.rife.place import for_models
from actors.storage import Storage

# HDv3 alone makes its mask apart from its flow. Every format has its tensors' names as plain bytes.
_BRANCH_OF_MASK = b"0.conv2.2.weight"


def knows_the_middle_alone(weights: str, storage: Storage) -> bool:
    """Whether these are weights of HDv3, which makes no other time than 1/2.

    Raises StorageError when `weights` cannot be read.
    """
    return _BRANCH_OF_MASK in for_models(storage).read_bytes(weights)
