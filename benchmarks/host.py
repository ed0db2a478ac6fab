"""CPU seconds that one clip of 576x1024x25 costs outside of the model and the video codec: ours against the guide's.

    python -m benchmarks.host [--turns 7]

The guide is diffusers' own for Stable Video Diffusion: `load_image`, `resize`, the pipeline with PIL output,
`export_to_video`. Its functions run here as the pipeline calls them, and ours as the stages call them, turn by turn in
one process, with one thread; the first turn warms up, and the figures are those of the cheapest turn. In the place of
the networks stand stubs, in the place of ffmpeg a program that reads all frames and leaves a file of a clip's size.

All is counted on the CPU. With a GPU the picture's way to CLIP and the frames' way to bytes are computed there in ours,
and on the CPU, as here, in the guide's. Ours also checks the frames, hashes the picture and the video, carries the rows
through a store as Ray does, and copies the video to its place. Ends non-zero where ours takes more than a third for the
picture of 1 megapixel. For the large one there is no limit: there most of the time is libjpeg's and Pillow's resizing,
which both need, and Lanczos' filter, with which ours is sharper, takes longer than the guide's bicubic one.
"""

import argparse
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import imageio_ffmpeg
import numpy as np
import skimage.data
import torch
from diffusers import StableVideoDiffusionPipeline
from diffusers.utils import export_to_video, load_image
from diffusers.video_processor import VideoProcessor
from PIL import Image
from ray import cloudpickle
from ray.data.block import BlockAccessor
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import CLIPImageProcessor

from actors import images, video
from actors.contracts import Pixels
from actors.generators.svd.settings import SvdParameters
from actors.settings import ImageSettings, VideoSettings
from actors.stages import finish, generate
from actors.storage import Storage
from actors.svd import conditioning, sampler
from actors.svd.model import SvdModel

_WIDTH, _HEIGHT, _NUM_FRAMES, _FPS = 1024, 576, 25, 7
_MAX_SHARE = 1 / 3
_PICTURES = {"1 MP": (1224, 816), "12 MP": (4242, 2828)}
_LIMITED = "1 MP"
_VIDEO_BYTES = 400_000  # 25 frames at crf 18
_CLIP_PIXELS = 224  # CLIP ViT-H/14's, as in SVD's checkpoints
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# In the place of Ray's store, which workers have mapped from their start.
_SHARED_MEMORY = memoryview(bytearray(64 * 2**20))

# Takes all frames and leaves a video at the path that is its last argument; imageio asks for the encoders first, and
# makes a trial of one, whose output is `-`.
_FAKE_FFMPEG = """#!/bin/sh
case "$*" in *-encoders*) exec {ffmpeg} "$@";; esac
cat > /dev/null
for last; do :; done
[ "$last" = - ] || cp {video} "${{last#file:}}"
"""


class Ledger:
    """CPU seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what the block takes, all threads of this process, without its children."""
        started = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - started

    @property
    def total(self) -> float:
        """Of all parts."""
        return sum(self.seconds.values())


class _NoEncoder(nn.Module):
    """In the place of CLIP: takes the picture and answers at once."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, image_BCHW: Tensor) -> SimpleNamespace:
        return SimpleNamespace(image_embeds=image_BCHW[:, :, 0, 0])


def main() -> int:
    """Take turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    turns: int = parser.parse_args().turns
    torch.set_num_threads(1)  # threads that wait for each other would be counted as work
    torch.set_grad_enabled(False)
    decoded_FCHW = _decoded()
    table = Table("picture", "part", "guide, ms", "ours, ms", "ratio", "limit")
    missed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _install_fake_ffmpeg(folder)
        for picture, size in _PICTURES.items():
            path = _photograph(folder / f"{size[0]}.jpg", size)
            guide, ours = _alternate(path, decoded_FCHW, folder, turns)
            for part in [*guide.seconds, *(part for part in ours.seconds if part not in guide.seconds)]:
                taken = [ledger.seconds.get(part) for ledger in (guide, ours)]
                table.add_row(picture, part, *("" if seconds is None else f"{1000 * seconds:.0f}" for seconds in taken))
            ratio = guide.total / ours.total
            is_limited = picture == _LIMITED
            missed |= is_limited and ratio < 1 / _MAX_SHARE
            table.add_row(
                picture,
                "together",
                f"{1000 * guide.total:.0f}",
                f"{1000 * ours.total:.0f}",
                f"{ratio:.1f}",
                f"at least {1 / _MAX_SHARE:g}" if is_limited else "",
                end_section=True,
            )
    Console().print(table)
    return int(missed)


def _alternate(path: Path, decoded_FCHW: Tensor, folder: Path, turns: int) -> tuple[Ledger, Ledger]:
    """The cheapest turn of either."""
    ledgers: tuple[list[Ledger], list[Ledger]] = ([], [])
    for _ in range(turns + 1):
        ledgers[0].append(_guide(path, decoded_FCHW, folder / "guide.mp4"))
        ledgers[1].append(_ours(path, decoded_FCHW, folder / "ours.mp4", folder / "dataset"))
    guide, ours = (min(taken[1:], key=lambda ledger: ledger.total) for taken in ledgers)
    return guide, ours


def _guide(path: Path, decoded_FCHW: Tensor, target: Path) -> Ledger:
    ledger = Ledger()
    processor = VideoProcessor(do_resize=True, vae_scale_factor=8)
    pipeline = SimpleNamespace(
        image_encoder=_NoEncoder(), video_processor=processor, feature_extractor=CLIPImageProcessor()
    )
    with ledger.part("read, decode"):
        image = load_image(str(path))
    with ledger.part("fit"):
        image = image.resize((_WIDTH, _HEIGHT))
    with ledger.part("picture to CLIP and VAE"):
        StableVideoDiffusionPipeline._encode_image(pipeline, image, torch.device("cpu"), 1, False)
        processor.preprocess(image, height=_HEIGHT, width=_WIDTH)
    with ledger.part("noise"):
        generator = torch.manual_seed(42)
        torch.randn(1, 3, _HEIGHT, _WIDTH, generator=generator)
        torch.randn(1, _NUM_FRAMES, 4, _HEIGHT // 8, _WIDTH // 8, generator=generator)
    with ledger.part("frames to bytes"):
        frames_BCFHW = decoded_FCHW[None].permute(0, 2, 1, 3, 4).float()
        frames = processor.postprocess_video(video=frames_BCFHW, output_type="pil")[0]
    with ledger.part("frames into ffmpeg"):
        export_to_video(frames, str(target), fps=_FPS)
    return ledger


def _ours(path: Path, decoded_FCHW: Tensor, target: Path, dataset: Path) -> Ledger:
    ledger = Ledger()
    storage, settings = Storage(), ImageSettings()
    model = cast(
        "SvdModel",
        SimpleNamespace(
            image_encoder=_NoEncoder(),
            clip_pixels=_CLIP_PIXELS,
            clip_mean_C11=torch.tensor(_MEAN)[:, None, None],
            clip_std_C11=torch.tensor(_STD)[:, None, None],
            dtype=torch.float32,
            device=torch.device("cpu"),
            latent_channels=4,
            pixel_multiple=8,
        ),
    )
    with ledger.part("read, decode"):
        data = storage.read_bytes(str(path), max_bytes=settings.max_bytes)
        image = images.decode(data, max_megapixels=settings.max_megapixels, max_bytes=settings.max_bytes)
    with ledger.part("fit"):
        image_HWC = images.fit(image.pixels_HWC, width=_WIDTH, height=_HEIGHT, mode="crop", pad_color=(0, 0, 0))
    with ledger.part("store"):
        image_HWC = _through_store({"image_HWC": image_HWC})["image_HWC"]
    with ledger.part("picture to CLIP and VAE"):
        conditioning.embed_images(model, sampler.to_float(image_HWC[np.newaxis], model.device))
    with ledger.part("noise"):
        sampler.clip_noise(model, 42, height=_HEIGHT, width=_WIDTH, num_frames=_NUM_FRAMES)
    with ledger.part("frames to bytes"):
        frames_FHWC = _to_bytes(model, image_HWC, decoded_FCHW)
        assert not generate._is_black(frames_FHWC)
    with ledger.part("store"):
        frames_FHWC = _through_store({"frames_FHWC": frames_FHWC})["frames_FHWC"]
    with ledger.part("frames into ffmpeg"):
        video.encode(
            frames_FHWC,
            target,
            width=_WIDTH,
            height=_HEIGHT,
            frame_rate=Fraction(_FPS),
            settings=VideoSettings(),
            tag="{}",
        )
    with ledger.part("hash, upload"):
        storage.put_file(str(dataset / target.name), target)
        finish._sha256(target)
    return ledger


def _to_bytes(model: SvdModel, image_HWC: Pixels, decoded_FCHW: Tensor) -> Pixels:
    """What `generate` does with what the decoder leaves."""
    clip = SvdParameters(
        seed=42, fps=_FPS, motion_bucket_id=127, noise_aug_strength=0.02, min_guidance_scale=1, max_guidance_scale=3
    )
    with patch.object(sampler, "generate_frames", lambda *_args, **_settings: iter([decoded_FCHW])):
        clips = sampler.generate(model, image_HWC[np.newaxis], [clip], num_frames=_NUM_FRAMES, num_inference_steps=25)
    assert clips.finite == (True,)
    frames_FHWC: Pixels = clips.frames_BFHWC[0]
    return frames_FHWC


def _through_store(row: dict[str, Pixels]) -> dict[str, Any]:
    """A row as Ray Data hands it on: into an Arrow block, copied once into shared memory, read there without a copy."""
    block = BlockAccessor.batch_to_block({name: column[np.newaxis] for name, column in row.items()})
    buffers: list[pickle.PickleBuffer] = []
    data = cloudpickle.dumps(block, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
    stored, end = [], 0
    for buffer in (buffer.raw() for buffer in buffers):
        stored.append(_SHARED_MEMORY[end : end + buffer.nbytes])
        stored[-1][:] = buffer
        end += buffer.nbytes
    block = pickle.loads(data, buffers=stored)  # noqa: S301 - pickled above
    rows = BlockAccessor.for_block(block).iter_rows(public_row_format=True)
    return cast("dict[str, Any]", next(iter(rows)))


def _decoded() -> Tensor:
    """As the VAE's decoder leaves a clip: (F, C, H, W), fp32, around -1..1 and a little beyond."""
    noise_1CHW = torch.randn(1, 3, _HEIGHT // 8, _WIDTH // 8, generator=torch.Generator().manual_seed(0))
    smooth_CHW = nn.functional.interpolate(noise_1CHW, (_HEIGHT, _WIDTH), mode="bicubic")[0]
    return torch.stack([0.5 * smooth_CHW * (1 - index / 50) for index in range(_NUM_FRAMES)])


def _photograph(path: Path, size: tuple[int, int]) -> Path:
    """A JPEG of that size (width, height), with the grain that a camera's has and an enlarged one lacks."""
    photo_HWC = np.asarray(Image.fromarray(skimage.data.astronaut()).resize(size, Image.Resampling.LANCZOS), np.float32)
    grain_HWC = np.random.default_rng(0).normal(0, 4, photo_HWC.shape)
    Image.fromarray((photo_HWC + grain_HWC).round().clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path


def _install_fake_ffmpeg(folder: Path) -> None:
    made = folder / "made.bin"
    made.write_bytes(np.random.default_rng(0).bytes(_VIDEO_BYTES))
    program = folder / "ffmpeg"
    program.write_text(_FAKE_FFMPEG.format(ffmpeg=imageio_ffmpeg.get_ffmpeg_exe(), video=made))
    program.chmod(0o755)
    os.environ["IMAGEIO_FFMPEG_EXE"] = str(program)


if __name__ == "__main__":
    sys.exit(main())
