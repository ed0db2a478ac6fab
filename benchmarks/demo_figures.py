"""Measure the demo's two checkpoints on photographs that they were not trained on.

    python -m benchmarks.demo_figures [--checkpoints checkpoints] [--photographs 8] [--sheet FILE.png]

Axes: B clips, F frames, H height, W width, C channels. Peak signal-to-noise ratios (PSNR) are of 8-bit RGB, in dB.
"""

import argparse
import time
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from skimage.registration import optical_flow_tvl1

from actors.generators.svd.settings import SvdParameters
from actors.rife.interpolate import Interpolator
from actors.svd import model as svd
from actors.svd.conditioning import encode_images
from actors.svd.sampler import decode, generate, to_float, to_uint8
from benchmarks.psnr import psnr
from benchmarks.train_demo import data

Pixels = npt.NDArray[np.uint8]

BUCKETS = (1, 36, 72, 108, 145, 181, 217, 253)
STEPS = 12
DEFAULTS = SvdParameters(
    seed=7, fps=7, motion_bucket_id=127, noise_aug_strength=0.02, min_guidance_scale=1.0, max_guidance_scale=1.0
)
PAN_STEPS_PX = (4, 8, 12, 16)  # between the two frames that RIFE gets
PAN_ANGLES = (0.0, 0.7, 1.6, 2.5)  # radians
INTERPOLATION_FACTOR = 4
INTERPOLATED_PAN_PX = 6.0  # a frame


def main() -> None:
    """Print the table, and write a contact sheet of generated clips where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--photographs", type=int, default=len(data.HELD_OUT), help="how many of the held-out ones")
    parser.add_argument("--sheet", type=Path, help="where to write a picture of the clips: a row for each")
    arguments = parser.parse_args()
    names = data.HELD_OUT[: arguments.photographs]
    pictures = [data.held_out_photograph(name) for name in names]
    table = Table("figure", "mean", "lowest", "each")
    interpolator = Interpolator.load(arguments.checkpoints / "rife-demo.safetensors", device="cpu", precision="fp32")
    _row(table, "RIFE over blend, middle frame, pans of 4..16 px [dB]", rife_gains(interpolator, pictures))
    _row(table, "RIFE over blend, interpolated pan [dB]", interpolation_gains(interpolator, pictures))
    model = svd.load(arguments.checkpoints / "svd-demo", precision="fp32", device="cpu")
    _row(table, "autoencoder, whole clips [dB]", reconstruction_psnr(model, pictures))
    images = [to_pixels(data.fitted(picture)) for picture in pictures]
    started_s = time.monotonic()
    clips = [generate_clip(model, image) for image in images]
    seconds = (time.monotonic() - started_s) / len(clips)
    _row(table, "first frame against the photograph [dB]", first_frame_psnr(clips, images))
    _row(table, "motion_bucket_id against optical flow [Spearman]", motion_correlations(model, images))
    Console().print(table, f"{seconds:.1f} s a clip of {data.NUM_FRAMES} frames, {STEPS} steps")
    if arguments.sheet:
        Image.fromarray(np.vstack([np.hstack(list(clip_FHWC[::2])) for clip_FHWC in clips])).save(arguments.sheet)


def _row(table: Table, name: str, values: Sequence[float]) -> None:
    each = " ".join(f"{value:.2f}" for value in values)
    table.add_row(name, f"{np.mean(values):.2f}", f"{min(values):.2f}", each)


def to_pixels(image_CHW: torch.Tensor) -> Pixels:
    """uint8 H,W,3 (or F,H,W,3) of float 3,H,W (or F,3,H,W) in 0..1."""
    pixels: Pixels = (image_CHW * 255).round().to(torch.uint8).movedim(-3, -1).numpy()
    return pixels


def rendered_pan(picture: Pixels, angle: float, step_px: float, times: Sequence[float]) -> Pixels:
    """F,H,W,3 of a camera that pans over the middle of a photograph, whose shorter side is twice the frame's."""
    canvas = data.fitted(picture, 2 * data.HEIGHT, 2 * data.WIDTH)
    motion = data.Motion(step_px * float(np.cos(angle)), step_px * float(np.sin(angle)), 1.0)
    middle = (data.WIDTH - 0.5, data.HEIGHT - 0.5)
    return to_pixels(data.render_clip(canvas, middle, motion, torch.tensor(times)))


def generate_clip(model: svd.SvdModel, image_HWC: Pixels, parameters: SvdParameters = DEFAULTS) -> Pixels:
    """F,H,W,3 of one image, as the product makes them."""
    made = generate(model, image_HWC[None], [parameters], num_frames=data.NUM_FRAMES, num_inference_steps=STEPS)
    clip_FHWC: Pixels = made.frames_BFHWC[0]
    return clip_FHWC


@torch.no_grad()
def reconstruction_psnr(model: svd.SvdModel, pictures: Sequence[Pixels]) -> list[float]:
    """Of one rendered pan per photograph, encoded and decoded as a whole clip."""
    results = []
    for index, picture in enumerate(pictures):
        frames_FHWC = rendered_pan(picture, float(index), data.MAX_SPEED_PX / 2, list(range(data.NUM_FRAMES)))
        latents = encode_images(model, to_float(frames_FHWC, model.device))
        decoded_FHWC = to_uint8(decode(model, latents * model.latent_scale)).numpy()
        results.append(psnr(decoded_FHWC, frames_FHWC))
    return results


def first_frame_psnr(clips: Sequence[Pixels], images: Sequence[Pixels]) -> list[float]:
    """Of the first generated frame against the image that was animated."""
    return [psnr(clip_FHWC[0], image_HWC) for clip_FHWC, image_HWC in zip(clips, images, strict=True)]


def flow_magnitude_px(clip_FHWC: Pixels) -> float:
    """Mean length of the optical flow between neighbouring frames."""
    gray_FHW = clip_FHWC.mean(axis=-1) / 255
    lengths = [np.hypot(*optical_flow_tvl1(one, other)).mean() for one, other in pairwise(gray_FHW)]
    return float(np.mean(lengths))


def motion_correlations(model: svd.SvdModel, images: Sequence[Pixels]) -> list[float]:
    """Spearman's rho of the motion bucket with the mean flow of all images first, then of every image alone."""
    clips = [DEFAULTS.model_copy(update={"motion_bucket_id": bucket}) for bucket in BUCKETS]
    flows = np.array([[flow_magnitude_px(generate_clip(model, image, clip)) for clip in clips] for image in images])
    return [float(spearmanr(BUCKETS, row).statistic) for row in (flows.mean(axis=0), *flows)]


def rife_gains(interpolator: Interpolator, pictures: Sequence[Pixels]) -> list[float]:
    """dB that the middle frame of a pan gains over the mean of its neighbours, one mean per photograph."""
    gains = []
    for picture in pictures:
        pans = [
            rendered_pan(picture, angle, px, [0, 0.5, 1]) for px, angle in zip(PAN_STEPS_PX, PAN_ANGLES, strict=True)
        ]
        gains.append(float(np.mean([_gain(interpolator, pan[::2], pan, Fraction(2)) for pan in pans])))
    return gains


def interpolation_gains(interpolator: Interpolator, pictures: Sequence[Pixels]) -> list[float]:
    """dB that all new frames of an interpolated pan gain over blends, per photograph."""
    gains = []
    for index, picture in enumerate(pictures):
        times = np.arange(3 * INTERPOLATION_FACTOR + 1) / INTERPOLATION_FACTOR
        truth = rendered_pan(picture, 1.1 * index, INTERPOLATED_PAN_PX, times.tolist())
        factor = Fraction(INTERPOLATION_FACTOR)
        gains.append(_gain(interpolator, truth[::INTERPOLATION_FACTOR], truth, factor))
    return gains


def _gain(interpolator: Interpolator, frames_FHWC: Pixels, truth_FHWC: Pixels, factor: Fraction) -> float:
    """Mean gain in dB of the frames between `frames_FHWC`, against `truth_FHWC`, over linear blends."""
    made = list(interpolator.frames(frames_FHWC, factor=factor))
    gains = []
    for index, (frame, true) in enumerate(zip(made, truth_FHWC, strict=True)):
        left, share = divmod(index, int(factor))
        if share:
            t = share / factor
            blend = frames_FHWC[left] * float(1 - t) + frames_FHWC[left + 1] * float(t)
            gains.append(psnr(frame, true) - psnr(blend.round(), true))
    return float(np.mean(gains))


if __name__ == "__main__":
    main()
