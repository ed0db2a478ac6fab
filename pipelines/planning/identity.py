"""What a clip is known by: `clip_id`, the SHA-256 of everything that changes its pixels, or how its file holds them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from actors import video
from actors.checkpoints.sources import for_models
from actors.errors import CheckpointError
from actors.fingerprint import fingerprint
from actors.storage import NotFound, Storage
from pipelines.config import Config
from pipelines.planning.hashes import Digests

# Combinations of parameters that are known while a chunk is hashed: with a seed in each row, all differ.
_PARAMETERS_KNOWN = 1000
# Raised when the same parameters begin to give other pixels, so that old clips and new ones keep different ids.
_PIXELS_VERSION = 2


def model_revisions(config: Config, storage: Storage) -> tuple[str, str]:
    """What identifies the content of the generator's model and of the interpolation weights ("" where there are none).

    Raises:
        StillreelError: there is no such model, or there are no such weights.
    """
    weights = config.interpolation.weights
    revision = config.model.revision_of_content(storage)
    try:
        return revision, fingerprint(weights, for_models(storage)) if weights else ""
    except NotFound as error:
        raise CheckpointError(
            f"interpolation.weights={weights} does not exist: name a file of RIFE weights, or null for none"
        ) from error


class Identity:
    """Gives clip_ids. What all clips of a run share is hashed once."""

    def __init__(self, config: Config, revision: str, weights_revision: str) -> None:
        """Every setting of these sections counts unless it is marked as without effect (`actors.settings`)."""
        fixed = config.parameters_of_all()
        shared = {
            "pixels_version": _PIXELS_VERSION,
            "generator": config.generator,
            "model_revision": revision,
            "model": config.model.identifying(),
            "image": config.image.identifying(),
            "parameters": fixed,
            "interpolation": config.interpolation.identifying(),
            "weights_revision": weights_revision,
            "video": video.resolved(config.video).identifying(),
        }
        self._shared = hashlib.sha256(json.dumps(shared, sort_keys=True).encode())

    @property
    def settings(self) -> str:
        """What identifies all that the clips of a run share."""
        return self._shared.hexdigest()

    def digests(self, parameters: Mapping[str, Sequence[Any]], images: Sequence[str]) -> Digests:
        """The id of each clip as 32 bytes (N x 32), from its own parameters and what its image is known by."""
        names = sorted(parameters)
        known: dict[str, Any] = {}
        digests = bytearray()
        for image, *values in zip(images, *(parameters[name] for name in names), strict=True):
            # Most clips of a manifest have the same parameters: these are hashed once. `repr` tells 1, 1.0 and True
            # apart, and 0.0 and -0.0.
            key = repr(values)
            begun = known.get(key)
            if begun is None:
                if len(known) >= _PARAMETERS_KNOWN:
                    known.clear()
                begun = known[key] = self._shared.copy()
                begun.update(f"{json.dumps(dict(zip(names, values, strict=True)))}\0".encode("utf-8", "surrogatepass"))
            digest = begun.copy()
            # The image comes last: whatever a URI holds, it cannot pass for a parameter.
            digest.update(image.encode("utf-8", "surrogatepass"))
            digests += digest.digest()
        return np.frombuffer(digests, np.uint8).reshape(-1, self._shared.digest_size)


def id_texts(digests: Digests) -> list[str]:
    """Ids as they are written: 64 hexadecimal digits."""
    return [digest.tobytes().hex() for digest in digests]


def derived_seed(clip_id: str) -> int:
    """32 bits of the id, because torch's CPU generator uses no more of a seed."""
    return int(clip_id[-8:], 16)
