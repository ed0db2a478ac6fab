"""Animate images with SVD. Axes: F frames, H height, W width, C channels."""

import time
from collections.abc import Generator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from actors.errors import GenerationError, GpuMemoryError
from actors.gpu_errors import is_out_of_memory
from actors.settings import NO_SHORTCUTS, FastSettings, GenerationSettings, ImageSettings, ModelSettings
from actors.stages.attempts import Attempts
from actors.stages.device import choose_device
from actors.stages.row import NO_FRAMES, Pixels, Row, parameters
from actors.storage import Storage
from actors.svd import fp8
from actors.svd.checkpoint import locate
from actors.svd.conditioning import ClipParameters
from actors.svd.model import SvdModel, load
from actors.svd.sampler import GeneratedClips, Shortcuts, check_size, generate, noise_schedule

# How a clip is made where memory is short, from the fastest to the smallest; a worker only ever goes on in this order.
MemoryMode = Literal["resident", "chunked", "offload"]
_TIGHTER: dict[MemoryMode, MemoryMode] = {"resident": "chunked", "chunked": "offload"}
# Frames that are decoded together where a whole clip does not fit; the memory grows with their number, and each frame
# should see its neighbours. One number for both modes, so that they make the same pixels.
_CHUNK_FRAMES = 8

# Mean levels, 0..255. A network that overflows without NaN gives levels of 0 everywhere; rounding leaves less than 1. A
# clip begins with its picture, so that it can only be black by right where the picture nearly is. scikit-image's
# photographs have means of 65 to 171, Hubble's deep field has 19; pictures of half of that are not judged.
_BLACK_LEVEL = 1.0
_DARK_PICTURE_LEVEL = 10.0
# Pixels apart that are looked at: enough for a mean, and no time beside the 44 MB of a clip.
_STRIDE = 8


class Generate:
    """SVD, resident. One instance per actor."""

    def __init__(
        self,
        model: ModelSettings,
        generation: GenerationSettings,
        image: ImageSettings,
        storage: Storage,
        attempts: Attempts,
        fast: FastSettings = NO_SHORTCUTS,
    ) -> None:
        self._settings = generation
        self._shortcuts = Shortcuts(cache_interval=fast.cache_interval, guided_share=fast.guided_share)
        self._decode_chunk_frames = model.decode_chunk_frames
        self._memory_mode: MemoryMode = "chunked" if model.decode_chunk_frames else "resident"
        self._attempts = attempts
        with attempts.start("generate"):
            self._model = self._load_model(model, storage)
            if fast.fp8:
                fp8.quantize(self._model.unet, self._model.device)
            check_size(self._model, width=image.width, height=image.height, num_frames=generation.num_frames)
            noise_schedule(self._model, generation.num_inference_steps)  # refuses more steps than there are levels
        device = self._model.device
        self._device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> Generator[dict[str, Any], None, None]:
        """Animate a batch of images, one after the other.

        In: the columns that `load_image` gives. Out, one row at a time: the same without `image_HWC`, and
        `frames_FHWC` (uint8), `generate_s`, `device`, `memory_mode`.
        """
        # All before the first is given out: of generators Ray runs several at a time, and where one is run again after
        # its worker died, what it had given out is taken as given.
        made = [self._attempt(row) for row in _rows(batch)]
        return (_as_batch(row) for row in made)

    def _load_model(self, model: ModelSettings, storage: Storage) -> SvdModel:
        folder = locate(
            model.source,
            revision=model.revision,
            variant=model.variant,
            cache_dir=model.cache_dir,
            storage_options=storage.options,
        )
        return load(
            folder,
            variant=model.variant,
            precision=model.precision,
            device=choose_device(model.device),
            is_distilled=model.tier == "few_step",
        )

    def _attempt(self, row: Row) -> Row:
        image_HWC = row.pop("image_HWC")
        row |= {"frames_FHWC": NO_FRAMES, "generate_s": 0.0, "device": self._device_name, "memory_mode": ""}
        return self._attempts.attempt(row, "generate", lambda row: self._animate(row, image_HWC))

    def _animate(self, row: Row, image_HWC: Pixels) -> Row:
        started = time.perf_counter()
        clips = self._generate_in_memory(image_HWC, ClipParameters(**parameters(row)))
        frames_FHWC = clips.frames_BFHWC[0]
        if not clips.finite[0]:
            raise GenerationError("the model made frames that are not numbers")
        if _is_black(frames_FHWC) and image_HWC[::_STRIDE, ::_STRIDE].mean() >= _DARK_PICTURE_LEVEL:
            raise GenerationError("the model made a black clip of a picture that is not black")
        elapsed_s = time.perf_counter() - started
        return row | {"frames_FHWC": frames_FHWC, "generate_s": elapsed_s, "memory_mode": self._memory_mode}

    def _generate_in_memory(self, image_HWC: Pixels, clip: ClipParameters) -> GeneratedClips:
        """Go on to a tighter memory mode, for this clip and all that follow, until the clip fits.

        Raises:
            GpuMemoryError: it fits in none.
        """
        while (clips := self._generate(image_HWC, clip)) is None:
            # Not while the error is handled: it holds the tensors of the try that failed.
            torch.cuda.empty_cache()
            if self._memory_mode not in _TIGHTER:
                raise GpuMemoryError(
                    "out of GPU memory, although the networks took turns and few frames were decoded at a time: lower "
                    "image.width and height, generation.num_frames, model.decode_chunk_frames or the actors per GPU"
                )
            self._memory_mode = _TIGHTER[self._memory_mode]
        return clips

    def _generate(self, image_HWC: Pixels, clip: ClipParameters) -> GeneratedClips | None:
        """None: out of memory."""
        try:
            return generate(
                self._model,
                image_HWC[np.newaxis],
                [clip],
                num_frames=self._settings.num_frames,
                num_inference_steps=self._settings.num_inference_steps,
                decode_chunk_frames=self._chunk_frames(),
                offload=self._memory_mode == "offload",
                shortcuts=self._shortcuts,
            )
        except RuntimeError as error:
            if is_out_of_memory(error):
                return None
            raise

    def _chunk_frames(self) -> int | None:
        if self._decode_chunk_frames or self._memory_mode == "resident":
            return self._decode_chunk_frames
        return _CHUNK_FRAMES


def _is_black(frames_FHWC: Pixels) -> bool:
    """Whether no frame shows anything."""
    return bool(frames_FHWC[:, ::_STRIDE, ::_STRIDE].mean(axis=(1, 2, 3)).max() < _BLACK_LEVEL)


def _rows(batch: dict[str, npt.NDArray[Any]]) -> list[Row]:
    size = len(next(iter(batch.values())))
    return [{name: column[index] for name, column in batch.items()} for index in range(size)]


def _as_batch(row: Row) -> dict[str, Any]:
    """A batch of one row: clips of different shapes never meet in one array."""
    return {name: value[np.newaxis] if isinstance(value, np.ndarray) else [value] for name, value in row.items()}
