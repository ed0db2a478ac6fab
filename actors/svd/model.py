"""The networks of an SVD checkpoint, loaded and resident on a device."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import accelerate
import diffusers
import torch
import transformers
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from actors import compiling
from actors.checkpoints.files import INDEX, local_names
from actors.checkpoints.lora_files import Lora
from actors.checkpoints.tensor_file import open_header
from actors.device import DTYPES
from actors.errors import CheckpointError
from actors.storage import Storage
from actors.svd import few_step, fused, layout
from actors.svd.decoder import Decoder
from actors.svd.lora import merge
from actors.svd.primitives import FeedForward
from actors.svd.unet import UNet

Precision = Literal["fp32", "fp16", "bf16"]

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class SvdModel:
    """Everything that sampling needs, on `device` unless `bring_in` sends some of it away; no number ever changes.

    The VAE stays in two parts. Its encoder overflows in half precision, so it is held in fp32 (34 M parameters in SVD)
    rather than cast to and fro for every clip.
    """

    unet: UNet  # in `dtype`
    image_encoder: nn.Module  # CLIP with projection, in `dtype`
    vae_encoder: nn.Module  # fp32: pixels -1..1 to the mean and log-variance of the latents, stacked along the channels
    vae_decoder: Decoder  # in `dtype`
    latent_scale: float  # what the UNet sees is this times what the VAE makes; not so for the image latents
    scheduler_config: Mapping[str, Any]
    clip_pixels: int  # side of the square that CLIP sees
    clip_mean_C11: Tensor
    clip_std_C11: Tensor
    latent_channels: int
    pixel_multiple: int  # width and height are multiples of this
    dtype: torch.dtype
    device: torch.device


def load(
    folder: Path,
    *,
    variant: str | None = None,
    precision: Precision,
    device: torch.device | str,
    streamed: bool = False,
    is_distilled: bool = False,
    loras: Sequence[Lora] = (),
) -> SvdModel:
    """Load a checkpoint in diffusers layout, from safetensors only, running no code of its own.

    Args:
        folder: what `locate` returns.
        variant: e.g. "fp16"; None: the plain files.
        precision: of the UNet, the image encoder and the VAE's decoder.
        device: where the networks work, and stay.
        streamed: keep all weights on the CPU and send those of a layer to `device` when it is its turn: the least
            memory, and much the slowest.
        is_distilled: this is a checkpoint for few steps (`model.tier=few_step`), and no other.
        loras: changes that are made to the UNet's weights, before they become anything else than they are in the file.

    Raises:
        CheckpointError: a file is missing or damaged, or this is not Stable Video Diffusion of that kind; or a LoRA
            does not fit.
    """
    _check_files(folder, variant)
    _check_scheduler(folder / layout.SCHEDULER_CONFIG, is_distilled=is_distilled)
    dtype, device = DTYPES[precision], torch.device(device)
    diffusers.utils.logging.disable_progress_bar()  # a worker's log is plain lines
    transformers.utils.logging.disable_progress_bar()
    vae = _network(AutoencoderKLTemporalDecoder, folder, "vae", variant, torch_dtype=torch.float32)
    unet = _network(
        UNetSpatioTemporalConditionModel, folder, "unet", variant, torch_dtype=torch.float32 if loras else dtype
    )
    for lora in loras:
        merge(unet, lora)
    nn.Module.to(unet, dtype)  # diffusers' own warns of layers that should stay fp32, of which this network has none
    image_encoder = _network(CLIPVisionModelWithProjection, folder, "image_encoder", variant, dtype=dtype)
    return assemble(
        unet,
        vae,
        image_encoder,
        scheduler_config=_read_json(folder / layout.SCHEDULER_CONFIG),
        preprocessor_config=_read_json(folder / layout.PREPROCESSOR_CONFIG),
        dtype=dtype,
        device=device,
        streamed=streamed,
    )


def assemble(
    unet: UNetSpatioTemporalConditionModel,
    vae: AutoencoderKLTemporalDecoder,
    image_encoder: CLIPVisionModelWithProjection,
    *,
    scheduler_config: Mapping[str, Any],
    preprocessor_config: Mapping[str, Any],
    dtype: torch.dtype,
    device: torch.device,
    streamed: bool = False,
) -> SvdModel:
    """A model out of the libraries' networks, which must not be used any more: their weights are taken over."""
    place = partial(_stream if streamed else _move, device=device)
    return SvdModel(
        unet=place(UNet(unet).eval().to(dtype)),
        image_encoder=place(image_encoder.to(dtype)),
        vae_encoder=place(nn.Sequential(vae.encoder, vae.quant_conv).float()),
        vae_decoder=place(Decoder(vae.decoder).eval().to(dtype)),
        latent_scale=vae.config.scaling_factor,
        scheduler_config=scheduler_config,
        clip_pixels=image_encoder.config.image_size,
        clip_mean_C11=torch.tensor(preprocessor_config["image_mean"], device=device)[:, None, None],
        clip_std_C11=torch.tensor(preprocessor_config["image_std"], device=device)[:, None, None],
        latent_channels=vae.config.latent_channels,
        pixel_multiple=2 ** (len(vae.config.block_out_channels) - 1),
        dtype=dtype,
        device=device,
    )


def compile_networks(model: SvdModel) -> None:
    """Compile the UNet and the decoder, in place: each kind of call when it first comes, in minutes.

    Kinds are: sizes, with and without guidance, whole evaluations and those with cached features, clips and chunks.
    """
    # The activations have their layout: left to choose, the compiler takes tokens, N F T C, for images and puts the
    # frames innermost.
    options = {**compiling.OPTIONS["options"], "layout_optimization": False}
    for network in (model.unet, model.vae_decoder):
        network.compile(**{**compiling.OPTIONS, "options": options})


def install_kernels(model: SvdModel) -> None:
    """Let the UNet and the decoder use kernels of our own where these pay, in place; not if they are streamed."""
    if fused.pays(model.device, model.dtype):
        for network in (model.unet, model.vae_decoder):
            fused.install(network)


def set_feed_forward_pieces(model: SvdModel, pieces: int) -> None:
    """Let the UNet's feed-forward layers take their tokens in so many pieces: less memory, more calls."""
    for module in model.unet.modules():
        if isinstance(module, FeedForward):
            module.pieces = pieces


def bring_in(model: SvdModel, *networks: nn.Module) -> None:
    """Put `networks` on the model's device and its other networks on the CPU: these first, there is no room for all."""
    for network in (model.unet, model.image_encoder, model.vae_encoder, model.vae_decoder):
        if network not in networks:
            network.to("cpu")
    for network in networks:
        network.to(model.device)


def _move(network: N, device: torch.device) -> N:
    return network.to(device)


def _stream(network: N, device: torch.device) -> N:
    return cast("N", accelerate.cpu_offload(network, execution_device=device))


def _network(cls: Any, folder: Path, component: str, variant: str | None, **dtype: torch.dtype) -> Any:
    """One network on the CPU, in evaluation mode, without gradients, every parameter of it from the file."""
    try:
        network, found = cls.from_pretrained(
            folder,
            subfolder=component,
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **dtype,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder / component} could not be loaded: {error}") from error
    # The libraries only warn about these, and go on with random numbers.
    if absent := sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]])):
        raise CheckpointError(
            f"{folder / component} does not fit its config.json: {len(absent)} tensors are missing or of another "
            f"shape, {absent[0]} among them; copy the checkpoint again"
        )
    return network.eval().requires_grad_(False)


def _check_files(folder: Path, variant: str | None) -> None:
    """That all files are there and whole, and that they are SVD's."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder")
    files = layout.wanted_files(local_names(folder), variant, str(folder))
    if (kind := _read_json(folder / INDEX).get("_class_name")) != "StableVideoDiffusionPipeline":
        raise CheckpointError(f"{folder} is a {kind}, not Stable Video Diffusion (StableVideoDiffusionPipeline)")
    for name in files:
        if name.endswith(".safetensors"):
            open_header(str(folder / name), Storage(), str(folder / name))


def _check_scheduler(path: Path, *, is_distilled: bool) -> None:
    """That the checkpoint was made for the sampler of its tier."""
    scheduler = _read_json(path)
    name = scheduler.get("_class_name")
    if few_step.is_few_step(scheduler):
        if not is_distilled:
            raise CheckpointError(f"{path}: this checkpoint is distilled for few steps: set model.tier=few_step")
        if problem := few_step.problem(scheduler):
            raise CheckpointError(f"{path}: not the scheduler of AnimateLCM-SVD-xt: {problem}")
    elif is_distilled:
        raise CheckpointError(
            f"{path}: model.tier=few_step needs a checkpoint distilled for few steps, whose scheduler is "
            f"{few_step.SCHEDULER}, but this one's is {name}: give it that one's file, or set model.tier=exact or fast"
        )
    elif (name, scheduler.get("prediction_type")) != ("EulerDiscreteScheduler", "v_prediction"):
        raise CheckpointError(
            f"{path}: the sampler is Euler's on v-predictions, as in every SVD checkpoint, "
            f"but this asks for {name} on {scheduler.get('prediction_type')}"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return content
