"""A checkpoint held ready to make clips, in as much memory as there is."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from actors.checkpoints.lora_files import Lora
from actors.compiling import is_compiled
from actors.contracts import Pixels
from actors.errors import GpuMemoryError, first_line
from actors.generators.svd.settings import NO_SHORTCUTS, FastSettings, SvdModelSettings, SvdParameters
from actors.gpu_errors import is_out_of_memory
from actors.svd import fp8
from actors.svd.model import SvdModel, compile_networks, install_kernels, load, set_feed_forward_pieces
from actors.svd.sampler import GeneratedClips, Shortcuts, check_size, generate, noise_schedule

# How a clip was made, from the fastest way to the smallest: `model.memory`, or "chunked" where all networks stayed and
# the decoder took a few frames at a time.
MemoryMode = Literal["resident", "chunked", "offload", "sequential"]
# Frames that are decoded together where a whole clip does not fit; the memory grows with their number, and each frame
# should see its neighbours.
_CHUNK_FRAMES = 8
# The hidden activations of a feed-forward layer are eight times its tokens: a share of that where nothing else fits.
_FEED_FORWARD_PIECES = 8


class Animator:
    """SVD on a device. Where its memory is short, it goes on to a tighter way, for that clip and all that follow."""

    def __init__(
        self,
        folder: Path,
        settings: SvdModelSettings,
        generation: SvdParameters,
        fast: FastSettings,
        *,
        device: torch.device,
        loras: Sequence[Lora] = (),
    ) -> None:
        """Load the checkpoint.

        Args:
            folder: what `actors.svd.checkpoint.locate` returns.
            settings: how it is held; `source`, `revision` and `cache_dir` have done their work.
            generation: length and steps of the clips; parameters of one that warms up.
            fast: shortcuts of `model.tier=fast`.
            device: where it runs.
            loras: merged into the UNet each time that it is loaded.

        Raises:
            CheckpointError: a file is missing or damaged, or this is not Stable Video Diffusion of the tier's kind.
            ConfigError: the GPU or the installation cannot do what `fast` asks for.
        """
        self._folder, self._settings, self._generation = folder, settings, generation
        self._fast, self._device, self._loras = fast, device, loras
        self._memory = settings.memory
        self._chunk_frames = settings.decode_chunk_frames
        self._model: SvdModel | None = self._load()

    @property
    def _is_compiled(self) -> bool:
        """A compiled network takes its weights where they are: not those that come layer by layer."""
        return is_compiled(self._settings.compile, self._device) and self._memory != "sequential"

    @property
    def memory_mode(self) -> MemoryMode:
        """How clips are made by now."""
        return "chunked" if self._memory == "resident" and self._chunk_frames else self._memory

    @property
    def device_name(self) -> str:
        """E.g. "NVIDIA H200", or "cpu"."""
        return torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else self._device.type

    def check(self, *, width: int, height: int) -> None:
        """Raise ConfigError if the checkpoint cannot make clips of this size (pixels), length or number of steps."""
        model = self._resident()
        check_size(model, width=width, height=height, num_frames=self._generation.num_frames)
        noise_schedule(model, self._generation.num_inference_steps)

    def warm_up(self, *, width: int, height: int) -> None:
        """Have all that is compiled or chosen for clips of this size ready: by a clip, where that pays.

        In one step; but with shortcuts the steps differ, and each kind is compiled.
        """
        if self._is_compiled or self._device.type == "cuda":
            clip = self._generation.model_copy(update={"seed": 0})
            steps = 1 if self._fast == NO_SHORTCUTS else self._generation.num_inference_steps
            self._make(np.zeros((height, width, 3), np.uint8), clip, num_inference_steps=steps)

    def animate(self, image_HWC: Pixels, clip: SvdParameters) -> GeneratedClips:
        """One clip of the image, uint8 RGB.

        Raises:
            GpuMemoryError: it fits in no way.
            RuntimeError: as torch raises it for all else that goes wrong on the device.
        """
        return self._make(image_HWC, clip, self._generation.num_inference_steps)

    def _make(self, image_HWC: Pixels, clip: SvdParameters, num_inference_steps: int) -> GeneratedClips:
        while True:
            try:
                return generate(
                    self._resident(),
                    image_HWC[np.newaxis],
                    [clip],
                    num_frames=self._generation.num_frames,
                    num_inference_steps=num_inference_steps,
                    decode_chunk_frames=self._chunk_frames,
                    offload=self._memory == "offload",
                    shortcuts=Shortcuts(cache_interval=self._fast.cache_interval, guided_share=self._fast.guided_share),
                )
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                refusal = first_line(error)
            # Not while the error is handled: it holds the tensors of the try that failed.
            torch.cuda.empty_cache()
            self._tighten(refusal)

    def _tighten(self, refusal: str) -> None:
        if self._chunk_frames is None:
            self._chunk_frames = _CHUNK_FRAMES
        elif self._memory == "sequential" or self._fast.fp8:  # 8-bit weights stay where they were made
            raise GpuMemoryError(
                f"out of GPU memory, although clips were made as tightly as can be ({self.memory_mode}): lower "
                "image.width and height, generation.num_frames, model.decode_chunk_frames or the actors per GPU; the "
                f"last that the device said is: {refusal}"
            )
        elif self._memory == "resident":
            self._memory = "offload"
        else:
            self._memory = "sequential"
            self._model = None  # before it is loaded anew: there is no room for two
            gc.collect()  # a compiled network is part of a cycle
            torch.cuda.empty_cache()

    def _resident(self) -> SvdModel:
        """The model; loaded anew where it had to go, which may find as little memory as a clip does."""
        if self._model is None:
            self._model = self._load()
        return self._model

    def _load(self) -> SvdModel:
        settings, streamed = self._settings, self._memory == "sequential"
        model = load(
            self._folder,
            variant=settings.variant,
            precision=settings.precision,
            device=self._device,
            streamed=streamed,
            is_distilled=settings.tier == "few_step",
            loras=self._loras,
        )
        if self._fast.fp8:
            fp8.quantize(model.unet, self._device)
        is_last_resort = streamed and settings.memory != "sequential"
        least_pieces = _FEED_FORWARD_PIECES if is_last_resort else 1
        set_feed_forward_pieces(model, max(settings.feed_forward_pieces, least_pieces))
        if not streamed:
            install_kernels(model)
        if self._is_compiled:
            compile_networks(model)
        return model
