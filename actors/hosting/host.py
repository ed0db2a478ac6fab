"""A pipeline of diffusers held ready to make clips, one a call, in as much memory as there is.

Axes: F frames, H height, W width, C channels.
"""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from torch import Tensor, nn

from actors.checkpoints.lora_files import Lora
from actors.contracts import Pixels
from actors.errors import GenerationError, GpuMemoryError, first_line
from actors.generators.diffusers.parameters import DiffusersParameters
from actors.generators.diffusers.settings import DiffusersModelSettings
from actors.gpu_errors import is_out_of_memory
from actors.hosting import faster, loras, sizes
from actors.hosting.embeddings import KeptEmbeddings
from actors.hosting.loading import load, networks_of, transformers_of
from actors.storage import Storage

# How a clip was made: `model.memory`, or what it became.
MemoryMode = Literal["resident", "offload", "group"]
_TIGHTER: dict[MemoryMode, MemoryMode] = {"resident": "offload", "offload": "group"}
# Steps of a clip that only warms up: the first is unlike the others in some schedulers.
_WARM_STEPS = 2
_LEVELS = 255

T = TypeVar("T")


class Host:
    """A pipeline on a device. Where memory is short, it goes on to a tighter way, for that clip and all after it."""

    def __init__(
        self,
        folder: Path,
        settings: DiffusersModelSettings,
        generation: DiffusersParameters,
        *,
        device: torch.device,
        loras: Sequence[Lora] = (),
    ) -> None:
        """Load the checkpoint.

        Args:
            folder: what `actors.checkpoints.checkpoint.locate` returns.
            settings: how it is held.
            generation: settled; parameters of a clip that warms up.
            device: where it runs.
            loras: merged each time that it is loaded.

        Raises:
            CheckpointError: a file is missing or damaged, or a LoRA does not fit.
            ConfigError: the GPU or the installation cannot do what the settings ask for.
        """
        self._folder, self._settings, self._generation = folder, settings, generation
        self._device, self._loras = device, loras
        here = settings.model_copy(update={"source": str(folder), "revision": None})
        self._hosted = here.hosted(Storage())
        self._memory: MemoryMode = settings.memory if device.type != "cpu" else "resident"
        self._pipeline: DiffusionPipeline | None = None
        self._embeddings: KeptEmbeddings | None = None
        self._in_memory(self._ready)

    @property
    def memory_mode(self) -> MemoryMode:
        """How clips are made by now."""
        return self._memory

    @property
    def pipeline_name(self) -> str:
        """The class of diffusers."""
        return self._hosted.pipeline

    @property
    def device_name(self) -> str:
        """E.g. "NVIDIA H200", or "cpu"."""
        return torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else self._device.type

    @property
    def encoder_calls(self) -> int:
        """How often texts were encoded."""
        return 0 if self._embeddings is None else self._embeddings.calls

    def warm_up(self, *, width: int, height: int) -> None:
        """Have all that is compiled or chosen for clips of this size ready: by a clip, where that pays."""
        if self._device.type == "cuda":
            steps = min(_WARM_STEPS, self._generation.num_inference_steps or _WARM_STEPS)
            clip = self._generation.model_copy(update={"seed": 0, "num_inference_steps": steps})
            self.animate(np.zeros((height, width, 3), np.uint8), clip)

    def animate(self, image_HWC: Pixels, clip: DiffusersParameters) -> Pixels:
        """One clip of the image, uint8 RGB: frames F, as many as were asked for.

        Raises:
            GenerationError: the frames are no numbers, or others than were asked for.
            GpuMemoryError: it fits in no way.
        """
        return self._in_memory(lambda: self._make(image_HWC, clip))

    def _in_memory(self, do: Callable[[], T]) -> T:
        """Do it, and where it finds too little memory, again in a tighter way. Raises GpuMemoryError after the last."""
        while True:
            try:
                return do()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                refusal = first_line(error)
            # Not while the error is handled: it holds the tensors of the try that failed.
            self._tighten(refusal)

    @torch.no_grad()
    def _make(self, image_HWC: Pixels, clip: DiffusersParameters) -> Pixels:
        pipeline = self._ready()
        if self._settings.taken.cache is not None:
            for network in transformers_of(pipeline):
                forget: Any = network._reset_stateful_cache  # noqa: SLF001 - as pipelines do at the end of a clip
                forget()  # a clip that failed may have left something
        with torch.random.fork_rng(self._cuda_devices):
            self._seed_the_process(clip.seed or 0)
            frames_FHWC = _as_levels(pipeline(**self._arguments(image_HWC, clip)).frames[0])
        height, width, _ = image_HWC.shape
        if frames_FHWC.shape != (clip.num_frames, height, width, 3):
            count, *size = frames_FHWC.shape[:3]
            raise GenerationError(
                f"the model made {count} frames of {size[1]}x{size[0]}, and not {clip.num_frames} of {width}x{height}"
            )
        return frames_FHWC

    def _arguments(self, image_HWC: Pixels, clip: DiffusersParameters) -> dict[str, Any]:
        """What the pipeline is called with: what its call takes of the clip's parameters."""
        hosted, extras = self._hosted, clip.extras
        call, (height, width, _) = hosted.call, image_HWC.shape
        assert call.frames is not None, hosted.pipeline
        assert clip.num_frames is not None, "settled"
        wanted: dict[str, Any] = {
            "image": Image.fromarray(image_HWC),
            "prompt": clip.prompt,
            "negative_prompt": clip.negative_prompt,
            "height": height,
            "width": width,
            call.frames: sizes.asked_frames(hosted, clip.num_frames, extras),
            call.rate or "fps": clip.fps,
            "num_inference_steps": clip.num_inference_steps,
            "guidance_scale": clip.guidance_scale,
            "generator": self._noise(clip.seed or 0),
            "output_type": "pt",
        }
        given = {name: value for name, value in wanted.items() if name in call and value is not None}
        return {**hosted.kind.always, **given, **extras}

    def _noise(self, seed: int) -> torch.Generator:
        """On the CPU, whose numbers are the same everywhere; unless the pipeline draws on the device itself."""
        draws_there = self._hosted.vae.get("timestep_conditioning")  # of LTX-Video from 0.9.1 on
        return torch.Generator(self._device if draws_there else "cpu").manual_seed(seed)

    def _seed_the_process(self, seed: int) -> None:
        """LTX-Video's decoder may draw noise from the generators of the process: those of the devices at work."""
        torch.default_generator.manual_seed(seed)
        if self._device.type == "cuda":
            torch.cuda.manual_seed(seed)

    @property
    def _cuda_devices(self) -> list[torch.device]:
        return [self._device] if self._device.type == "cuda" else []

    def _ready(self) -> DiffusionPipeline:
        """The pipeline; loaded anew where it had to go, which may find as little memory as a clip does."""
        if self._pipeline is None:
            self._pipeline = self._loaded()
        return self._pipeline

    def _loaded(self) -> DiffusionPipeline:
        settings = self._settings
        variant, precision = settings.variant, settings.precision
        pipeline = load(self._folder, self._hosted, variant=variant, precision=precision, place=self._place)
        loras.merge(pipeline, self._loras, [lora.network for lora in settings.loras if lora.scale])
        faster.prepare(pipeline, settings, self._device)
        encode = getattr(pipeline, "encode_prompt", None)
        if encode is not None:
            pipeline.encode_prompt = self._embeddings = KeptEmbeddings(encode)
        if self._memory == "resident":
            pipeline.to(self._device)
        elif self._memory == "offload":
            pipeline.enable_model_cpu_offload(device=self._device)
        else:
            pipeline.enable_group_offload(
                self._device,
                offload_type="leaf_level",
                use_stream=True,
                exclude_modules=[
                    name for name, part in networks_of(pipeline).items() if _reads_weights_of_others(part)
                ],
            )
        if self._memory == "resident":
            faster.compile_blocks(transformers_of(pipeline), self._hosted, settings, self._device)
        return pipeline

    def _place(self, name: str, network: nn.Module) -> None:
        """Have it leave the CPU before the next one is loaded: all of a large model would take more than a machine has.

        What is still to be changed waits: LoRAs are merged on the CPU, and 8-bit weights go to the device by layers.
        """
        waits = name in {lora.network for lora in self._settings.loras if lora.scale}
        waits |= self._settings.taken.weights is not None and name.startswith("transformer")
        if self._memory == "resident" and not waits:
            network.to(self._device)

    def _tighten(self, refusal: str) -> None:
        tighter = _TIGHTER.get(self._memory)
        if self._settings.taken.weights is not None:
            raise GpuMemoryError(
                "out of GPU memory, and 8-bit weights stay where they are made: set fast.weights=null and "
                f"model.memory=offload, or lower image.width and height; the last that the device said is: {refusal}"
            )
        if tighter is None or self._device.type == "cpu":
            raise GpuMemoryError(
                f"out of GPU memory, although clips were made as tightly as can be ({self._memory}): lower "
                "image.width and height, generation.num_frames or the actors per GPU, or set model.vae_tiling=true; "
                f"the last that the device said is: {refusal}"
            )
        self._memory = tighter
        self._pipeline = None  # before it is loaded anew: there is no room for two
        self._embeddings = None
        gc.collect()  # a compiled network is part of a cycle
        torch.cuda.empty_cache()


def _reads_weights_of_others(network: nn.Module) -> bool:
    """Whether it has a layer that takes another's weights without calling it, which would wait on the CPU."""
    return any(isinstance(module, nn.MultiheadAttention) for module in network.modules())


def _as_levels(video_FCHW: Tensor) -> Pixels:
    """Frames 0..1 as levels 0..255 in one array on the host, rounded where they are: nothing is copied twice.

    Raises GenerationError where they are no numbers.
    """
    if not bool(torch.isfinite(video_FCHW).all()):
        raise GenerationError("the model made frames that are not numbers")
    levels = (video_FCHW.float() * _LEVELS).round_().clamp_(0, _LEVELS).to(torch.uint8)
    frames: Pixels = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return frames
