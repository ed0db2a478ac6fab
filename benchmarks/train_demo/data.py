"""What the demo models learn from: pictures, and camera motion over them.

Letters in names: F frames, C channels (RGB), H height, W width. Pixels are float, 0..1, unless a name says otherwise.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

# The demo's own pictures and the figures' pictures: never trained on.
HELD_OUT = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "moon.png",
    "rocket.jpg",
)

# (package, path inside it, weight): colour photographs of whole scenes weigh most, close-ups and documents little.
TRAINING_PHOTOGRAPHS = (
    ("skimage", "data/motorcycle_left.png", 5.0),
    ("skimage", "data/motorcycle_right.png", 2.0),
    ("skimage", "data/retina.jpg", 1.0),
    ("skimage", "data/ihc.png", 1.0),
    ("skimage", "data/coins.png", 1.5),
    ("skimage", "data/brick.png", 0.7),
    ("skimage", "data/grass.png", 0.7),
    ("skimage", "data/gravel.png", 0.7),
    ("skimage", "data/cell.png", 0.4),
    ("skimage", "data/page.png", 0.4),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", 5.0),
    ("sklearn", "datasets/images/china.jpg", 8.0),
    ("sklearn", "datasets/images/flower.jpg", 5.0),
)

NUM_FRAMES = 8
HEIGHT, WIDTH = 96, 160
MAX_SPEED_PX = 0.9  # per frame at motion bucket 255: about what so small a network moves sharply over 8 frames
ZOOM_SHARE = 0.2  # of the clips; the others pan


def picture_path(package: str, path: str) -> Path | None:
    """Where an installed package keeps a picture; None where the package is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / path


def load_picture(path: Path) -> NDArray[np.uint8]:
    """uint8 H,W,3 of an image file, gray ones repeated on the three channels."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def held_out_photograph(name: str) -> NDArray[np.uint8]:
    """uint8 H,W,3 of one of HELD_OUT."""
    path = picture_path("skimage", f"data/{name}")
    assert path is not None, "scikit-image is in the demo extra"
    return load_picture(path)


def fitted(picture_HWC: NDArray[np.uint8], height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    """The middle of a picture, scaled to fill height x width; float 3,H,W."""
    image = Image.fromarray(picture_HWC)
    scale = max(height / image.height, width / image.width)
    box_width, box_height = width / scale, height / scale
    left, top = (image.width - box_width) / 2, (image.height - box_height) / 2
    box = (left, top, left + box_width, top + box_height)
    resized = image.resize((width, height), Image.Resampling.LANCZOS, box=box)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255


def _noise_1_over_f(rng: np.random.Generator, size: int, exponent: float) -> NDArray[np.float32]:
    """size x size noise of amplitude 1/f^exponent, mean 0, standard deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf
    spectrum = rng.normal(size=(size, size // 2 + 1)) + 1j * rng.normal(size=(size, size // 2 + 1))
    noise = np.fft.irfft2(spectrum / frequency**exponent, s=(size, size))
    return np.asarray(noise / noise.std(), dtype=np.float32)


def _random_color(rng: np.random.Generator) -> tuple[int, int, int]:
    """A colour near the gray axis most of the time, as in photographs."""
    saturation = rng.beta(1.2, 2.5)
    gray = rng.uniform(0.02, 0.98)
    rgb = np.clip(gray + saturation * rng.uniform(-0.6, 0.6, size=3), 0, 1)
    red, green, blue = (rgb * 255).astype(int)
    return int(red), int(green), int(blue)


def _polygon(rng: np.random.Generator, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """A blob, a box or a jagged polygon around (x, y)."""
    corners = int(rng.integers(3, 14))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = radius * rng.uniform(0.5, 1.0, corners) * np.where(rng.random() < 0.3, rng.uniform(0.2, 1), 1.0)
    stretch = rng.uniform(0.3, 1.0)
    return [(x + r * np.cos(a), y + stretch * r * np.sin(a)) for a, r in zip(angles, radii, strict=True)]


def _draw_leaf(rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: int, smallest: float, largest: float) -> None:
    """One shape; radii follow the r^-3 law of dead leaves, which gives the edge statistics of photographs."""
    u = rng.random()
    radius = (smallest**-2 * (1 - u) + largest**-2 * u) ** -0.5
    x, y = rng.uniform(-0.1 * size, 1.1 * size, 2)
    color = _random_color(rng)
    kind = rng.random()
    if kind < 0.35:
        draw.ellipse((x - radius, y - radius * 0.7, x + radius, y + radius * 0.7), fill=color)
    elif kind < 0.75:
        draw.polygon(_polygon(rng, x, y, radius), fill=color)
    elif kind < 0.95:
        angle = rng.uniform(0, 2 * np.pi)
        end = (x + 3 * radius * np.cos(angle), y + 3 * radius * np.sin(angle))
        draw.line([(x, y), end], fill=color, width=int(1 + radius / 6))
    else:
        letters = "".join(chr(c) for c in rng.integers(65, 91, 5))
        draw.text((x, y), letters, fill=color, font_size=max(8.0, radius))


def procedural_picture(rng: np.random.Generator, size: int = 384) -> NDArray[np.uint8]:
    """uint8 size,size,3: dead leaves over a gradient, shaded by 1/f noise, drawn at twice the size."""
    large = 2 * size
    image = Image.new("RGB", (large, large), _random_color(rng))
    draw = ImageDraw.Draw(image)
    smallest = 4.0 * 10 ** rng.uniform(0, 1)
    for _ in range(int(rng.integers(100, 1500))):
        _draw_leaf(rng, draw, large, smallest, largest=0.4 * large)
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 6.0) ** rng.uniform(0, 1)))
    pixels = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS), dtype=np.float32) / 255
    shade = _noise_1_over_f(rng, size, rng.uniform(0.9, 1.9))[..., None]
    texture = _noise_1_over_f(rng, size, rng.uniform(0.4, 1.2))[..., None]
    tint = _noise_1_over_f(rng, size, 1.5)[..., None] * rng.normal(size=3)
    pixels = pixels * (1 + rng.uniform(0, 0.3) * shade)
    pixels = pixels + rng.uniform(0, 0.06) * texture + rng.uniform(0, 0.06) * tint
    return np.asarray(np.clip(pixels, 0, 1) * 255 + 0.5, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Motion:
    """Camera motion of one clip, pixels or factors per frame."""

    pan_x_px: float
    pan_y_px: float
    zoom: float

    @property
    def is_pan(self) -> bool:
        """Whether nothing comes nearer."""
        return self.zoom == 1.0


def mean_radius_px(height: int, width: int) -> float:
    """Mean distance of a pixel from the centre: a zoom by s moves pixels by (s - 1) times this, on average."""
    y = np.arange(height) - (height - 1) / 2
    x = np.arange(width) - (width - 1) / 2
    return float(np.hypot(y[:, None], x[None, :]).mean())


def random_motion(rng: np.random.Generator, speed_px: float, height: int = HEIGHT, width: int = WIDTH) -> Motion:
    """A pan in any direction, or a zoom in or out, that moves pixels by speed_px per frame on average."""
    if rng.random() < ZOOM_SHARE:
        change = speed_px / mean_radius_px(height, width)
        return Motion(0.0, 0.0, 1 + change if rng.random() < 0.5 else 1 / (1 + change))
    angle = rng.uniform(0, 2 * np.pi)
    return Motion(speed_px * float(np.cos(angle)), speed_px * float(np.sin(angle)), 1.0)


def render_clip(
    picture_CHW: torch.Tensor,
    center_xy: tuple[float, float],
    motion: Motion,
    times: torch.Tensor,
    height: int = HEIGHT,
    width: int = WIDTH,
    scale: float = 1.0,
) -> torch.Tensor:
    """Frames F,3,H,W that a moving camera sees at the given times (in frames).

    `center_xy` is where the first frame's centre lies in the picture (pixels); `scale` is picture pixels per pixel.
    """
    y = torch.arange(height) - (height - 1) / 2
    x = torch.arange(width) - (width - 1) / 2
    times_F11 = times[:, None, None]
    view = scale * motion.zoom ** (-times_F11)
    x_FHW = center_xy[0] + view * x[None, None, :] + scale * motion.pan_x_px * times_F11 + 0 * y[None, :, None]
    y_FHW = center_xy[1] + view * y[None, :, None] + scale * motion.pan_y_px * times_F11 + 0 * x[None, None, :]
    picture_height, picture_width = picture_CHW.shape[1:]
    grid = torch.stack([(2 * x_FHW + 1) / picture_width - 1, (2 * y_FHW + 1) / picture_height - 1], dim=-1)
    picture = picture_CHW[None].expand(len(times), -1, -1, -1)
    frames = F.grid_sample(picture, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return frames.clamp(0, 1)


class Pictures:
    """Training pictures at several sizes, drawn with colour changes and flips."""

    def __init__(self, cache_dir: Path, num_procedural: int = 320, seed: int = 0) -> None:
        photographs = [
            (load_picture(path), weight)
            for package, name, weight in TRAINING_PHOTOGRAPHS
            if (path := picture_path(package, name)) is not None
        ]
        procedural = _cached_procedural(cache_dir, num_procedural, seed)
        self.pyramids = [_pyramid(picture) for picture, _ in photographs] + [_pyramid(p) for p in procedural]
        weights = np.array([weight for _, weight in photographs])
        weights = np.concatenate([0.55 * weights / weights.sum(), np.full(len(procedural), 0.45 / len(procedural))])
        self.weights = weights / weights.sum()

    def clip(
        self,
        rng: np.random.Generator,
        motion: Motion,
        num_frames: int = NUM_FRAMES,
        height: int = HEIGHT,
        width: int = WIDTH,
    ) -> torch.Tensor:
        """Frames F,3,H,W of a random picture under a motion."""
        times = torch.arange(num_frames, dtype=torch.float32)
        return self.clip_at(rng, motion, times, height, width)

    def clip_at(
        self, rng: np.random.Generator, motion: Motion, times: torch.Tensor, height: int, width: int
    ) -> torch.Tensor:
        """Frames F,3,H,W at any times (in frames) of a random picture under a motion."""
        pyramid = self.pyramids[rng.choice(len(self.pyramids), p=self.weights)]
        scale = float(rng.uniform(0.8, 1.15))
        duration = float(times.max())
        widest = max(1.0, motion.zoom**-duration)
        half_width, half_height = scale * widest * width / 2, scale * widest * height / 2
        travel_x, travel_y = scale * motion.pan_x_px * duration, scale * motion.pan_y_px * duration
        fitting = [
            level
            for level in pyramid
            if level.shape[2] >= 2 * half_width + abs(travel_x) and level.shape[1] >= 2 * half_height + abs(travel_y)
        ] or pyramid[:1]
        # Small levels show whole photographs, as the demo does: they are drawn more often.
        weights = 1.6 ** np.arange(len(fitting))
        level = fitting[rng.choice(len(fitting), p=weights / weights.sum())]
        center = (
            _random_start(rng, level.shape[2], half_width, travel_x),
            _random_start(rng, level.shape[1], half_height, travel_y),
        )
        frames = render_clip(level.float() / 255, center, motion, times, height, width, scale)
        return _color_jitter(rng, frames)


def _random_start(rng: np.random.Generator, size: int, half: float, travel: float) -> float:
    """A first centre such that the whole way stays inside 0..size where that is possible."""
    low, high = half + max(0.0, -travel), size - half - max(0.0, travel)
    return float(rng.uniform(low, high)) if high > low else (low + high) / 2


def _color_jitter(rng: np.random.Generator, frames_FCHW: torch.Tensor) -> torch.Tensor:
    """Other exposure, contrast, colour balance, and now and then swapped channels; the same for all frames."""
    gain = torch.tensor(rng.uniform(0.75, 1.25) * rng.uniform(0.85, 1.15, 3), dtype=torch.float32)[:, None, None]
    frames = frames_FCHW.clamp(min=1e-4) ** float(rng.uniform(0.7, 1.5)) * gain
    if rng.random() < 0.3:
        frames = frames[:, torch.from_numpy(rng.permutation(3))]
    if rng.random() < 0.15:
        frames = frames.mean(dim=1, keepdim=True).expand_as(frames)
    saturation = float(rng.uniform(0.5, 1.5))
    gray = frames.mean(dim=1, keepdim=True)
    return (gray + saturation * (frames - gray)).clamp(0, 1)


def _pyramid(picture_HWC: NDArray[np.uint8]) -> list[torch.Tensor]:
    """uint8 3,H,W at sizes falling by sqrt(2) and both mirrored ways, down to about the clips' size."""
    picture = torch.from_numpy(picture_HWC.copy()).permute(2, 0, 1)
    levels = [picture]
    while min(levels[-1].shape[1] / HEIGHT, levels[-1].shape[2] / WIDTH) > 1.2 * 2**0.5:
        k = len(levels)
        size = [round(side / 2 ** (k / 2)) for side in picture.shape[1:]]
        small = F.interpolate(picture[None].float(), size, mode="bicubic", antialias=True)[0]
        levels.append(small.clamp(0, 255).round().to(torch.uint8))
    return levels


def _cached_procedural(cache_dir: Path, count: int, seed: int) -> NDArray[np.uint8]:
    """count procedural pictures, drawn once and kept in a file."""
    path = cache_dir / f"procedural-{count}-{seed}.npy"
    if not path.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        np.save(path, np.stack([procedural_picture(rng) for _ in range(count)]))
    pictures: NDArray[np.uint8] = np.load(path)
    return pictures
