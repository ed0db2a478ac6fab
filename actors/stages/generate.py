"""Animate images with SVD. Axes: B clips, F frames, H height, W width, C channels."""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from actors.errors import GenerationError
from actors.settings import GenerationSettings, ImageSettings, ModelSettings
from actors.stages.device import choose_device
from actors.stages.row import NO_FRAMES, Row, failed, parameters
from actors.storage import Storage
from actors.svd.checkpoint import locate
from actors.svd.conditioning import ClipParameters
from actors.svd.model import load
from actors.svd.sampler import check_size, generate


class Generate:
    """SVD, resident. One instance per actor."""

    def __init__(
        self, model: ModelSettings, generation: GenerationSettings, image: ImageSettings, storage: Storage
    ) -> None:
        folder = locate(
            model.source,
            revision=model.revision,
            variant=model.variant,
            cache_dir=model.cache_dir,
            storage_options=storage.options,
        )
        device = choose_device(model.device)
        self._model = load(folder, variant=model.variant, precision=model.precision, device=device)
        check_size(self._model, width=image.width, height=image.height, num_frames=generation.num_frames)
        self._settings = generation
        self._decode_chunk_frames = model.decode_chunk_frames
        self._device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> Iterator[dict[str, Any]]:
        """Animate a batch of images; clips of one shape share a call.

        In: the columns that `load_image` gives. Out, one row at a time: the same without `image_HWC`, and
        `frames_FHWC` (uint8), `generate_s` (the clip's share of its call), `device`.
        """
        rows = _rows(batch)
        by_shape: dict[tuple[int, ...], list[Row]] = defaultdict(list)
        for row in rows:
            by_shape[row["image_HWC"].shape if not row["stage"] else ()].append(row)
        for shape, alike in by_shape.items():
            yield from map(_as_batch, self._animate(alike) if shape else map(self._passed_by, alike))

    def _animate(self, rows: list[Row]) -> list[Row]:
        try:
            return self._sample(rows)
        except Exception as error:  # one bad clip must not end the job, nor its neighbours in the batch
            if len(rows) > 1:
                return [made for row in rows for made in self._animate([row])]
            return [self._passed_by(failed(rows[0], "generate", error))]

    def _sample(self, rows: list[Row]) -> list[Row]:
        started = time.perf_counter()
        clips = generate(
            self._model,
            np.stack([row["image_HWC"] for row in rows]),
            [ClipParameters(**parameters(row)) for row in rows],
            num_frames=self._settings.num_frames,
            num_inference_steps=self._settings.num_inference_steps,
            decode_chunk_frames=self._decode_chunk_frames,
        )
        share_s = (time.perf_counter() - started) / len(rows)
        return [
            self._passed_by(row) | {"generate_s": share_s, "frames_FHWC": frames_FHWC}
            if finite
            else self._passed_by(failed(row, "generate", GenerationError("the model made frames that are not numbers")))
            for row, frames_FHWC, finite in zip(rows, clips.frames_BFHWC, clips.finite)
        ]

    def _passed_by(self, row: Row) -> Row:
        """The row as it leaves this stage without frames."""
        kept = {name: value for name, value in row.items() if name != "image_HWC"}
        return kept | {"frames_FHWC": NO_FRAMES, "generate_s": 0.0, "device": self._device_name}


def _rows(batch: dict[str, npt.NDArray[Any]]) -> list[Row]:
    size = len(next(iter(batch.values())))
    return [{name: column[index] for name, column in batch.items()} for index in range(size)]


def _as_batch(row: Row) -> dict[str, Any]:
    """A batch of one row: clips of different shapes never meet in one array."""
    return {name: value[np.newaxis] if isinstance(value, np.ndarray) else [value] for name, value in row.items()}
