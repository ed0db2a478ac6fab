"""What a clip is known by: `clip_id`, the SHA-256 of everything that changes its pixels, or how its file holds them."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from actors import video
from actors.errors import CheckpointError
from actors.fingerprint import fingerprint
from actors.rife.place import for_models
from actors.storage import NotFound, Storage
from pipelines.config import Config

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

    def clip_ids(self, parameters: Mapping[str, Sequence[Any]], images: Sequence[str]) -> Iterator[str]:
        """The id of each clip, from its own parameters and what its image is known by."""
        names = sorted(parameters)
        for image, *values in zip(images, *(parameters[name] for name in names), strict=True):
            digest = self._shared.copy()
            # The image comes last: whatever a URI holds, it cannot pass for a parameter.
            text = f"{json.dumps(dict(zip(names, values, strict=True)))}\0{image}"
            digest.update(text.encode("utf-8", "surrogatepass"))
            yield digest.hexdigest()


def derived_seed(clip_id: str) -> int:
    """32 bits of the id, because torch's CPU generator uses no more of a seed."""
    return int(clip_id[-8:], 16)
