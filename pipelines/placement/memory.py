"""What the generator needs of memory, of the GPU and of the machine, and where a machine has too little of it."""

from collections.abc import Sequence

from actors.errors import CheckpointError, StorageError
from actors.generators.base import MemoryWay
from actors.storage import Storage
from pipelines.config import Config
from pipelines.placement.shares import Share

_GB = 10**9


def needed(config: Config) -> tuple[list[MemoryWay], list[str]]:
    """The ways to make clips, and what is to be said where what they need is not known; none where no GPU is reserved.

    Raises:
        ConfigError: the model cannot make such clips.
    """
    if not config.workers.generate.num_gpus:
        return [], []
    storage = Storage(config.storage.options, tries=config.storage.tries)
    try:
        memory = config.model.memory_needs(config.generation, config.image, storage)
    except (CheckpointError, StorageError) as error:  # planning has read it, and what it needs may be asked in vain
        return [], [_unknown(config, str(error))]
    return memory.ways, [_unknown(config, memory.unknown)] if memory.unknown else []


def too_little(shares: Sequence[Share], ways: Sequence[MemoryWay]) -> list[str]:
    """Where the generators of a node take more than its machine has while they load."""
    by_name = {way.name: way.host_bytes for way in ways}
    notes = []
    for share in shares:
        node, each = share.node, by_name.get(share.way, ways[-1].host_bytes if ways else 0)
        if share.generate and node.memory_bytes is not None and share.generate * each > node.memory_bytes:
            taken = f"{share.generate} x {each / _GB:.0f} GB" if share.generate > 1 else f"{each / _GB:.0f} GB"
            notes.append(
                f"{node.name}: its machine has {node.memory_bytes / _GB:.0f} GB of memory, and the generators take "
                f"{taken} of it when they load the model (memory_mode {share.way}): take machines with more, or fewer "
                "generators (workers.generate.actors)"
            )
    return list(dict.fromkeys(notes))


def _unknown(config: Config, why: str) -> str:
    return f"what {config.generator} needs of a GPU's memory is not known, and taken to be there: {why}"
