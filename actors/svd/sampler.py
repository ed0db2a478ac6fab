"""Stable Video Diffusion: from images to the frames of clips, step by step.

A clip depends on its own image, parameters and seed alone, never on the batch that it rides in, not even in its last
bit. Noise and frames are those of diffusers' `StableVideoDiffusionPipeline` for one image and
`torch.Generator().manual_seed(seed)`.

Notation after Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models" (EDM).
Shapes: B clips, F frames, H W pixels, h w latent pixels, C channels; N = B, or 2B with the unconditional half in front.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from actors.contracts import Pixels
from actors.errors import ConfigError
from actors.generators.svd.settings import SvdParameters
from actors.svd import few_step
from actors.svd.conditioning import Conditioning, condition
from actors.svd.model import SvdModel, bring_in
from actors.svd.unet import Evaluation, StepTerms


@dataclass(frozen=True, slots=True)
class GeneratedClips:
    """Clips on the host."""

    frames_BFHWC: Pixels
    finite: tuple[bool, ...]  # one per clip; False: NaN or infinity on the way, and the frames are worthless


@dataclass(frozen=True, slots=True)
class NoiseSchedule:
    """The scheduler's constants for S denoising steps."""

    sigmas: tuple[float, ...]  # S + 1, falling; the last one is 0
    timesteps_S: Tensor  # what the UNet is told about each sigma but the last
    initial_sigma: float  # deviation of the noise that everything begins with
    num_renoised: int = 0  # steps that end with fresh noise: all but the last with distilled checkpoints, or none


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """What a clip may be made without; it has other pixels then. The defaults leave nothing out."""

    cache_interval: int = 1  # one in so many evaluations of the UNet is whole, in the others its last layer alone runs
    guided_share: float = 1.0  # 0..1, of the steps, those in the middle; the others go without guidance


WHOLE = Shortcuts()


def generate(
    model: SvdModel,
    images_BHWC: Pixels,
    clips: Sequence[SvdParameters],
    *,
    num_frames: int,
    num_inference_steps: int,
    decode_chunk_frames: int | None = None,
    offload: bool = False,
    shortcuts: Shortcuts = WHOLE,
) -> GeneratedClips:
    """Animate a batch of images of one size.

    Args:
        images_BHWC: uint8, RGB; height and width become those of the clips.
        clips: one per image.
        num_frames: frames of each clip; best the number that the checkpoint was trained for, 14 or 25.
        num_inference_steps: denoising steps.
        decode_chunk_frames: decode so many frames of a clip at a time, which saves memory and changes every pixel a
            little, since the decoder looks across frames; None: whole clips.
        offload: keep on the device only the networks that are at work. Saves memory, takes time, changes nothing.
        shortcuts: save time, and change every pixel.

    Raises:
        ConfigError: the checkpoint cannot make clips of this size or length.
    """
    # Pinned on CUDA, where other memory is copied through such memory; torch keeps it for the next clip.
    is_pinned = model.device.type == "cuda"
    frames_BFHWC = torch.empty(
        (len(clips), num_frames, *images_BHWC.shape[1:]), dtype=torch.uint8, pin_memory=is_pinned
    )
    finite = []
    decoded = generate_frames(
        model,
        images_BHWC,
        clips,
        num_frames=num_frames,
        num_inference_steps=num_inference_steps,
        decode_chunk_frames=decode_chunk_frames,
        offload=offload,
        shortcuts=shortcuts,
    )
    for index, frames_FCHW in enumerate(decoded):
        # Frame by frame: what is in between stays small, and the bytes are turned and copied once.
        for frame_1CHW, frame_HWC in zip(torch.split(frames_FCHW, 1), frames_BFHWC[index], strict=True):
            frame_HWC.copy_(to_uint8(frame_1CHW)[0], non_blocking=True)
        finite.append(is_finite(frames_FCHW))  # its answer comes behind the copies, which have arrived then
    return GeneratedClips(frames_BFHWC.numpy(), tuple(finite))


@torch.no_grad()
def generate_frames(
    model: SvdModel,
    images_BHWC: Pixels,
    clips: Sequence[SvdParameters],
    *,
    num_frames: int,
    num_inference_steps: int,
    decode_chunk_frames: int | None = None,
    offload: bool = False,
    shortcuts: Shortcuts = WHOLE,
) -> Iterator[Tensor]:
    """The same, clip by clip, as the decoder leaves them: (F, C, H, W), fp32, -1..1 and a little beyond."""
    assert len(images_BHWC) == len(clips), (len(images_BHWC), len(clips))
    height, width = images_BHWC.shape[1:3]
    check_size(model, width=width, height=height, num_frames=num_frames)
    schedule = noise_schedule(model, num_inference_steps)
    # The networks see one clip at a time: in a batch they round otherwise, which would be seen in the file. A clip of
    # full size fills a GPU by itself, so that nothing is lost.
    for index, clip in enumerate(clips):
        latents_FChw = _sample(model, images_BHWC[[index]], clip, num_frames, schedule, shortcuts, offload=offload)
        if offload:
            bring_in(model, model.vae_decoder)
        yield decode(model, latents_FChw, decode_chunk_frames)


def _sample(
    model: SvdModel,
    image_1HWC: Pixels,
    clip: SvdParameters,
    num_frames: int,
    schedule: NoiseSchedule,
    shortcuts: Shortcuts,
    *,
    offload: bool,
) -> Tensor:
    """The latents (F, C, h, w) of one clip."""
    height, width = image_1HWC.shape[1:3]
    assert clip.seed is not None  # the plan derives one where there is none
    image_noise_CHW, noise_FChw, *step_noise_FChw = (
        noise.to(model.device)
        for noise in clip_noise(
            model,
            clip.seed,
            height=height,
            width=width,
            num_frames=num_frames,
            num_renoised=schedule.num_renoised,
        )
    )
    if offload:
        bring_in(model, model.image_encoder, model.vae_encoder)
    image_1CHW = to_float(image_1HWC, model.device)
    conditioning = condition(model, image_1CHW, image_noise_CHW[None], [clip], num_frames)
    if offload:
        bring_in(model, model.unet)
    latents_1FChw = noise_FChw[None] * schedule.initial_sigma
    fresh_noise = (noise[None] for noise in step_noise_FChw)
    return denoise(model, latents_1FChw, conditioning, schedule, shortcuts, fresh_noise)[0]


def check_size(model: SvdModel, *, width: int, height: int, num_frames: int) -> None:
    """Raise ConfigError if the checkpoint cannot make clips of this size (pixels) or length."""
    multiple = model.pixel_multiple
    if width % multiple or height % multiple:
        raise ConfigError(
            f"clips of {width}x{height} pixels cannot be made: this checkpoint needs multiples of {multiple}; "
            f"{_nearest(width, multiple)}x{_nearest(height, multiple)} would do"
        )
    if num_frames < 1:
        raise ConfigError(f"generation.num_frames={num_frames}: a clip has at least one frame")


def _nearest(pixels: int, multiple: int) -> int:
    return max(round(pixels / multiple), 1) * multiple


def to_float(images_BHWC: Pixels, device: torch.device) -> Tensor:
    """Bytes to (B, C, H, W), fp32, -1..1."""
    images_BCHW = torch.tensor(images_BHWC, device=device).permute(0, 3, 1, 2)
    return images_BCHW / 255 * 2 - 1


def to_uint8(frames_FCHW: Tensor) -> Tensor:
    """Frames around -1..1 to (F, H, W, C) bytes, rounded, on the same device: a quarter of what floats would move."""
    levels_FCHW = frames_FCHW.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return torch.stack(levels_FCHW.unbind(1), dim=-1)  # contiguous: turned round as bytes, on the device


def is_finite(frames_FCHW: Tensor) -> bool:
    """Whether there is neither NaN nor infinity; one pass that stores nothing, where `isfinite` makes a mask."""
    least, greatest = torch.aminmax(frames_FCHW)  # both are NaN where anything is
    return math.isfinite(least) and math.isfinite(greatest)


def clip_noise(
    model: SvdModel, seed: int, *, height: int, width: int, num_frames: int, num_renoised: int = 0
) -> list[Tensor]:
    """Standard normal noise for the image (C, H, W), the latents, and so many steps (F, C, h, w), fp32 on the CPU.

    On the CPU, because there a seed gives the same numbers on every machine; in this order, because that is the stock
    pipeline's.
    """
    generator = torch.Generator().manual_seed(seed)
    image_CHW = torch.randn(3, height, width, generator=generator)
    latent_hw = height // model.pixel_multiple, width // model.pixel_multiple
    shape_FChw = num_frames, model.latent_channels, *latent_hw
    return [image_CHW, *(torch.randn(shape_FChw, generator=generator) for _ in range(1 + num_renoised))]


def noise_schedule(model: SvdModel, num_inference_steps: int) -> NoiseSchedule:
    """The checkpoint's own schedule, taken once, so that the loop neither searches in it nor waits for the device.

    Raises:
        ConfigError: a distilled checkpoint does not know so many steps.
    """
    if few_step.is_few_step(model.scheduler_config):
        sigmas = few_step.noise_levels(model.scheduler_config, num_inference_steps)
        return NoiseSchedule(
            sigmas=(*sigmas, 0.0),
            timesteps_S=torch.tensor([0.25 * math.log(sigma) for sigma in sigmas], device=model.device),
            initial_sigma=math.sqrt(sigmas[0] ** 2 + 1),
            num_renoised=num_inference_steps - 1,
        )
    scheduler = EulerDiscreteScheduler.from_config(model.scheduler_config)
    scheduler.set_timesteps(num_inference_steps)
    return NoiseSchedule(
        sigmas=tuple(scheduler.sigmas.tolist()),
        timesteps_S=scheduler.timesteps.to(model.device),
        initial_sigma=float(scheduler.init_noise_sigma),
    )


def denoise(
    model: SvdModel,
    latents_BFChw: Tensor,
    conditioning: Conditioning,
    schedule: NoiseSchedule,
    shortcuts: Shortcuts = WHOLE,
    step_noise_BFChw: Iterable[Tensor] = (),
) -> Tensor:
    """From noise to latents, fp32 throughout: it begins at sigma 700, where fp16 counts by 0.5.

    EDM's equations, with the preconditioning of a v-prediction on data of unit deviation (EDM, table 1). A step is
    Euler's; with `step_noise_BFChw`, standard normal and one for each step but the last, it is that of `few_step`.
    """
    steps = _steps(model, conditioning, schedule, shortcuts, num_frames=latents_BFChw.shape[1])
    fresh_noise = iter(step_noise_BFChw)
    deep_NFHWC: Tensor | None = None
    for (sigma, next_sigma), step in zip(pairwise(schedule.sigmas), steps, strict=True):
        c_in = 1 / math.sqrt(sigma**2 + 1)
        c_skip = c_in**2
        c_out = -sigma * c_in
        velocity_BFChw, deep_NFHWC = predict_velocity(
            model, c_in * latents_BFChw, step.terms, step.conditioning, None if step.is_whole else deep_NFHWC
        )
        denoised_BFChw = c_skip * latents_BFChw + c_out * velocity_BFChw
        if (noise_BFChw := next(fresh_noise, None)) is not None:
            latents_BFChw = denoised_BFChw + next_sigma * noise_BFChw
        else:
            # x + (next_sigma - sigma) * (x - denoised) / sigma, without taking the difference of two numbers near 700.
            latents_BFChw = torch.lerp(denoised_BFChw, latents_BFChw, next_sigma / sigma)
    return latents_BFChw


@dataclass(frozen=True, slots=True)
class _Step:
    """How the UNet is evaluated in one step."""

    terms: StepTerms
    conditioning: Conditioning
    is_whole: bool  # or with the deep features of an earlier step


def _steps(
    model: SvdModel, conditioning: Conditioning, schedule: NoiseSchedule, shortcuts: Shortcuts, *, num_frames: int
) -> Iterator[_Step]:
    """The steps of the schedule; those without guidance see the conditional half alone."""
    num_steps = len(schedule.timesteps_S)
    guided = _middle(num_steps, math.ceil(shortcuts.guided_share * num_steps))
    # The first one is always whole; as many others as an even spacing would make so are together where they count.
    whole = {0, *_middle(num_steps, math.ceil(num_steps / shortcuts.cache_interval) - 1)}
    conditional = conditioning.unguided()
    phases = ((range(guided.start), conditional), (guided, conditioning), (range(guided.stop, num_steps), conditional))
    for steps, of_phase in phases:
        if not steps:
            continue
        terms = model.unet.terms(
            schedule.timesteps_S[steps.start : steps.stop],
            of_phase.image_embeddings_N1D,
            of_phase.added_time_ids_N3,
            num_frames=num_frames,
        )
        for index, of_step in zip(steps, terms, strict=True):
            # Guidance begins with a whole evaluation: of the unconditional half there are no features yet.
            begins_guidance = index == guided.start and of_phase is not conditional
            yield _Step(of_step, of_phase, is_whole=index in whole or begins_guidance)


def _middle(num_steps: int, count: int) -> range:
    """So many of the steps, those where the picture takes shape: two thirds of the others lie before them.

    While nearly all is noise, and when nearly none is left, a step counts for little (Kynkäänniemi et al. 2024,
    "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models", for
    guidance). On the demo's checkpoint with 8 steps, half of them guided: 42 to 49 dB from exact with these, 38 to 43
    with as many before as behind, 30 to 34 with the last ones, 22 to 24 with the first. Half of them whole, one
    photograph without guidance: 37 dB with these, 25 with every second one; of 25 steps: 46 and 39 dB.
    """
    first = round((num_steps - count) * 2 / 3)
    return range(first, first + count)


def predict_velocity(
    model: SvdModel,
    inputs_BFChw: Tensor,
    terms: StepTerms,
    conditioning: Conditioning,
    deep_NFHWC: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One evaluation of the UNet on inputs of unit deviation, with guidance: the velocity, fp32, and deep features.

    `deep_NFHWC` are those of an earlier step, of both halves or of the conditional one, which is the last.
    """
    halves = 1 if conditioning.guidance_BF111 is None else 2
    inputs_NFChw = inputs_BFChw.to(model.dtype).repeat(halves, 1, 1, 1, 1)
    inputs_NFChw = torch.cat([inputs_NFChw, conditioning.image_latents_NFChw], dim=2)
    if deep_NFHWC is not None:
        deep_NFHWC = deep_NFHWC[-len(inputs_NFChw) :]
    evaluation: Evaluation = model.unet(inputs_NFChw, terms, deep_NFHWC)
    velocity_NFChw = evaluation.velocity_NFChw.float()
    if conditioning.guidance_BF111 is None:
        return velocity_NFChw, evaluation.deep_NFHWC
    unconditional_BFChw, conditional_BFChw = velocity_NFChw.chunk(2)
    # At a scale of 1, lerp gives the second operand bit by bit: a clip without guidance does not notice its neighbours.
    velocity_BFChw = torch.lerp(unconditional_BFChw, conditional_BFChw, conditioning.guidance_BF111)
    return velocity_BFChw, evaluation.deep_NFHWC


def decode(model: SvdModel, latents_FChw: Tensor, chunk_frames: int | None = None) -> Tensor:
    """The VAE's decoder on one clip (F, C, H, W), fp32, around -1..1; whole, or `chunk_frames` at a time."""
    scaled_FChw = (latents_FChw / model.latent_scale).to(model.dtype)
    chunks = torch.split(scaled_FChw, chunk_frames or len(scaled_FChw))
    return torch.cat([model.vae_decoder(chunk).float() for chunk in chunks])
