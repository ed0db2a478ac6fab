"""RIFE written a second time, as plainly as can be: one function a step, over bare tensors under the authors' names.

Each group of versions stands here with its numbers written out; nothing of the product is used. Weights are random.
Axes: B samples, C channels, H height, W width.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True)
class Spec:
    """A group: its first version, and all that its code says."""

    versions: str
    body: str  # R: residual with beta, L: leaky ReLU, P: PReLU
    widths: tuple[int, ...]
    scales: tuple[int, ...]
    head: tuple[int, int, int]  # layers, hidden, outputs
    tail: str  # outputs of a block; "bare" without a pixel shuffle
    cin: tuple[int, int]  # of the first block, of the others
    mask_is_added: bool
    pad: int
    million: float  # parameters
    gflop: float  # of a pair of 576x1024 after padding, both heads
    bin_bytes: int  # of the ncnn file
    groups: int = 1
    old_head_names: bool = False


W, LITE, HEAVY = (192, 128, 96, 64), (128, 96, 64, 48), (384, 256, 192, 128, 64)
FINE, COARSE, WIDE = (8, 4, 2, 1), (16, 8, 4, 2, 1), (32, 16, 8, 4, 1)
ADDED, REPLACED = True, False
A, B = "4.10 4.11 4.12 4.13 4.14 4.15 4.17 4.18 4.19 4.24", "4.12.lite 4.13.lite"
C, D = "4.15.lite 4.16.lite 4.17.lite", "4.21 4.22 4.23"
_SPECS = (
    Spec("4.0 4.1", "P", W, FINE, (0, 0, 0), "5 bare", (7, 12), ADDED, 64, 5.161, 47.3, 10_340_416),
    Spec("4.2 4.3 4.4", "L", W, FINE, (0, 0, 0), "5 bare", (7, 12), ADDED, 32, 5.156, 47.3, 10_322_176),
    Spec("4.5", "R", W, FINE, (0, 0, 0), "5", (7, 12), ADDED, 32, 5.276, 49.0, 10_568_176),
    Spec("4.6", "R", W, FINE, (0, 0, 0), "6", (7, 12), ADDED, 32, 5.306, 49.5, 10_629_680),
    Spec("4.7 4.8 4.9", "R", W, FINE, (2, 16, 4), "6", (15, 20), REPLACED, 32, 5.325, 51.4, 10_670_240),
    Spec(A, "R", W, FINE, (4, 32, 8), "6", (23, 28), REPLACED, 32, 5.364, 65.4, 10_793_232, old_head_names=True),
    Spec("4.14.lite", "R", W, FINE, (4, 32, 8), "6", (23, 28), REPLACED, 32, 2.968, 44.1, 6_000_912, groups=2),
    Spec(B, "R", LITE, FINE, (4, 32, 4), "6", (15, 20), REPLACED, 32, 2.632, 40.0, 5_319_056, old_head_names=True),
    Spec(C, "R", LITE, FINE, (4, 16, 4), "6", (15, 20), REPLACED, 32, 2.616, 31.0, 5_257_552),
    Spec("4.20", "R", (384, 192, 96, 48), FINE, (4, 32, 8), "6", (23, 28), REPLACED, 32, 15.377, 71.6, 30_826_032),
    Spec(D, "R", (256, 192, 96, 48), FINE, (4, 32, 8), "13", (23, 36), REPLACED, 32, 9.322, 68.1, 18_713_584),
    Spec("4.22.lite", "R", (192, 128, 64, 32), FINE, (4, 16, 4), "13", (15, 28), REPLACED, 32, 4.866, 29.9, 9_759_728),
    Spec("4.25 4.26", "R", (*W, 32), COARSE, (4, 16, 4), "13", (15, 28), REPLACED, 64, 5.665, 26.2, 11_360_684),
    Spec("4.25.lite", "R", (*W, 24), WIDE, (4, 16, 4), "13", (15, 28), REPLACED, 128, 5.623, 14.0, 11_276_252),
    Spec("4.25.heavy", "R", HEAVY, COARSE, (4, 16, 4), "13", (15, 28), REPLACED, 64, 21.664, 83.0, 43_376_108),
    Spec("4.26.heavy", "R", (*W, 32), COARSE, (4, 16, 16), "13", (39, 52), REPLACED, 64, 5.723, 29.8, 11_483_660),
)
SPECS = {spec.versions.split()[0]: spec for spec in _SPECS}  # by a group's first version
FLOW_GAIN = 3.0  # with it, random flows reach across several pixels


def random_state(version: str, *, seed: int = 0) -> State:
    """Tensors as that version's file has them, fp32."""
    spec = SPECS[version]
    draw = _Draw(seed, gain=4.0 if spec.body == "L" else 3.0)  # what nothing is added to would fade away
    layers, hidden, outputs = spec.head
    if layers == 2:
        draw.conv("encode.0", 3, hidden)
        draw.deconv("encode.1", hidden, outputs)
    elif layers == 4:
        names = ["0", "2", "4", "6"] if spec.old_head_names else ["cnn0", "cnn1", "cnn2", "cnn3"]
        for index, name in enumerate(names[:3]):
            draw.conv(f"encode.{name}", hidden if index else 3, hidden)
        draw.deconv(f"encode.{names[3]}", hidden, outputs)
    for index, c in enumerate(spec.widths):
        block = f"block{index}"
        draw.conv(f"{block}.conv0.0.0", spec.cin[min(index, 1)], c // 2)
        draw.conv(f"{block}.conv0.1.0", c // 2, c)
        if spec.body == "P":
            draw.slopes(f"{block}.conv0.0.1", c // 2)
            draw.slopes(f"{block}.conv0.1.1", c)
        for layer in range(8):
            name = f"{block}.convblock.{layer}"
            if spec.body == "R":
                draw.conv(f"{name}.conv", c // spec.groups, c)
                draw.state[f"{name}.beta"] = draw.uniform(1, c, 1, 1) * 0.5 + 0.1
            else:
                draw.conv(f"{name}.0", c, c)
            if spec.body == "P":
                draw.slopes(f"{name}.1", c)
        if spec.tail == "5 bare":
            draw.deconv(f"{block}.lastconv", c, 5, gain=FLOW_GAIN)
        else:
            draw.deconv(f"{block}.lastconv.0", c, 4 * int(spec.tail), gain=FLOW_GAIN)
    return draw.state


def random_hdv3_state(channels: int = 90, *, seed: int = 0) -> State:
    """Tensors as HDv3's file has them, but for those of its training."""
    draw = _Draw(seed)
    for index in range(3):
        block = f"block{index}"
        draw.conv(f"{block}.conv0.0.0", 11, channels // 2)
        draw.slopes(f"{block}.conv0.0.1", channels // 2)
        draw.conv(f"{block}.conv0.1.0", channels // 2, channels)
        draw.slopes(f"{block}.conv0.1.1", channels)
        for pair in range(4):
            for layer in range(2):
                draw.conv(f"{block}.convblock{pair}.{layer}.0", channels, channels)
                draw.slopes(f"{block}.convblock{pair}.{layer}.1", channels)
        for branch, outputs in (("conv1", 4), ("conv2", 1)):
            draw.deconv(f"{block}.{branch}.0", channels, channels // 2)
            draw.slopes(f"{block}.{branch}.1", channels // 2)
            draw.deconv(f"{block}.{branch}.2", channels // 2, outputs, gain=FLOW_GAIN)
    return draw.state


def reference(version: str, state: State, img0: Tensor, img1: Tensor, t: Tensor) -> Tensor:
    """The frames (B,3,H,W) at `t` (B,) of frames of any size: padded by their border, and cropped again."""
    spec = SPECS[version]
    height, width = img0.shape[-2:]
    img0, img1 = (F.pad(img, (0, -width % spec.pad, 0, -height % spec.pad), mode="replicate") for img in (img0, img1))
    made = [_one(spec, state, img0[i : i + 1], img1[i : i + 1], float(t[i])) for i in range(len(t))]
    return torch.cat(made)[:, :, :height, :width]


def hdv3_reference(state: State, img0: Tensor, img1: Tensor) -> Tensor:
    """The middle (B,3,H,W) of frames whose sides are multiples of 32."""
    flow, mask = img0.new_zeros(len(img0), 4, *img0.shape[-2:]), img0.new_zeros(len(img0), 1, *img0.shape[-2:])
    w0, w1 = img0, img1
    for index, k in ((0, 4), (1, 2), (2, 1)):
        f_a, m_a = _hdv3_block(state, f"block{index}", torch.cat([w0, w1, mask], 1), flow, k)
        f_b, m_b = _hdv3_block(state, f"block{index}", torch.cat([w1, w0, -mask], 1), flow[:, [2, 3, 0, 1]], k)
        flow, mask = flow + (f_a + f_b[:, [2, 3, 0, 1]]) / 2, mask + (m_a - m_b) / 2
        w0, w1 = fetch(img0, flow[:, :2]), fetch(img1, flow[:, 2:])
    share = 1 / (1 + torch.exp(-mask))
    return w0 * share + w1 * (1 - share)


def fetch(img: Tensor, flow: Tensor) -> Tensor:
    """out[y, x] = img[y + flow_y, x + flow_x], by the four pixels around; beyond the border the border's."""
    height, width = img.shape[-2:]
    x = (torch.arange(width) + flow[:, 0].double()).clamp(0, width - 1)
    y = (torch.arange(height)[:, None] + flow[:, 1].double()).clamp(0, height - 1)
    left, top = x.floor().clamp(max=max(width - 2, 0)).long(), y.floor().clamp(max=max(height - 2, 0)).long()
    right_share, lower_share = (x - left)[:, None], (y - top)[:, None]

    def pixels(dy: int, dx: int) -> Tensor:
        index = ((top + dy) * width + left + dx).flatten(1)[:, None].expand(-1, img.shape[1], -1)
        return img.double().flatten(2).gather(2, index).view(img.shape)

    upper = pixels(0, 0) * (1 - right_share) + pixels(0, 1) * right_share
    lower = pixels(1, 0) * (1 - right_share) + pixels(1, 1) * right_share
    return (upper * (1 - lower_share) + lower * lower_share).float()


class _Draw:
    """Random numbers that keep signals at about their size from layer to layer."""

    def __init__(self, seed: int, gain: float = 3.0) -> None:
        self._gain = gain
        self._generator = torch.Generator().manual_seed(seed)
        self.state: State = {}

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator)

    def conv(self, name: str, inputs: int, outputs: int) -> None:
        self.state[f"{name}.weight"] = (self.uniform(outputs, inputs, 3, 3) - 0.5) * self._gain / math.sqrt(9 * inputs)
        self.state[f"{name}.bias"] = (self.uniform(outputs) - 0.5) * 0.2

    def deconv(self, name: str, inputs: int, outputs: int, gain: float = 1.0) -> None:
        self.state[f"{name}.weight"] = (self.uniform(inputs, outputs, 4, 4) - 0.5) * 3 * gain / math.sqrt(4 * inputs)
        self.state[f"{name}.bias"] = (self.uniform(outputs) - 0.5) * 0.2

    def slopes(self, name: str, channels: int) -> None:
        self.state[f"{name}.weight"] = self.uniform(channels) * 0.5


def _one(spec: Spec, state: State, img0: Tensor, img1: Tensor, t: float) -> Tensor:
    """One sample."""
    heads = [_head(spec, state, img) for img in (img0, img1)]
    time = torch.full_like(img0[:, :1], t)
    scales = list(spec.scales)
    first = torch.cat([img0, img1, *heads, time], 1)
    flow, mask, features = _block(spec, state, 0, first, None, scales[0])
    for index in range(1, len(scales)):
        change, other_mask, other_features = _later(
            spec, state, index, img0, img1, heads, time, flow, mask, features, scales
        )
        is_large = change[:, :2].abs().max() > 32 and change[:, 2:].abs().max() > 32
        if spec.body == "P" and index == 1 and is_large:
            scales = [2 * k for k in scales]
            flow, mask, features = _block(spec, state, 0, first, None, scales[0])
            change, other_mask, other_features = _later(
                spec, state, index, img0, img1, heads, time, flow, mask, features, scales
            )
        flow = flow + change
        mask = mask + other_mask if spec.mask_is_added else other_mask
        features = other_features
    share = 1 / (1 + torch.exp(-mask))
    return fetch(img0, flow[:, :2]) * share + fetch(img1, flow[:, 2:]) * (1 - share)


def _later(
    spec: Spec,
    state: State,
    index: int,
    img0: Tensor,
    img1: Tensor,
    heads: list[Tensor],
    time: Tensor,
    flow: Tensor,
    mask: Tensor,
    features: Tensor,
    scales: list[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """A block behind the first one."""
    w0, w1 = fetch(img0, flow[:, :2]), fetch(img1, flow[:, 2:])
    wf0, wf1 = fetch(heads[0], flow[:, :2]), fetch(heads[1], flow[:, 2:])
    handed_on = [features] if spec.tail == "13" else []
    return _block(spec, state, index, torch.cat([w0, w1, wf0, wf1, time, mask, *handed_on], 1), flow, scales[index])


def _head(spec: Spec, state: State, img: Tensor) -> Tensor:
    layers = spec.head[0]
    if layers == 0:
        return img[:, :0]
    if layers == 2:
        return _up(state, "encode.1", _conv(state, "encode.0", img, stride=2))
    names = ["0", "2", "4", "6"] if spec.old_head_names else ["cnn0", "cnn1", "cnn2", "cnn3"]
    x = F.leaky_relu(_conv(state, f"encode.{names[0]}", img, stride=2), 0.2)
    x = F.leaky_relu(_conv(state, f"encode.{names[1]}", x), 0.2)
    x = F.leaky_relu(_conv(state, f"encode.{names[2]}", x), 0.2)
    return _up(state, f"encode.{names[3]}", x)


def _block(
    spec: Spec, state: State, index: int, x: Tensor, flow: Tensor | None, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Changes of flow, mask, and the rest, at full size."""
    block = f"block{index}"
    if flow is not None:
        x = torch.cat([x, flow / k], 1)
    x = _bilinear(x, 1 / k)
    x = _activated(spec, state, f"{block}.conv0.0.1", _conv(state, f"{block}.conv0.0.0", x, stride=2))
    x = _activated(spec, state, f"{block}.conv0.1.1", _conv(state, f"{block}.conv0.1.0", x, stride=2))
    before = x
    for layer in range(8):
        name = f"{block}.convblock.{layer}"
        if spec.body == "R":
            x = F.leaky_relu(_conv(state, f"{name}.conv", x, groups=spec.groups) * state[f"{name}.beta"] + x, 0.2)
        else:
            x = _activated(spec, state, f"{name}.1", _conv(state, f"{name}.0", x))
    if spec.body == "P":
        x = x + before
    if spec.tail == "5 bare":
        out = _bilinear(_up(state, f"{block}.lastconv", x), 2 * k)
        return out[:, :4] * 2 * k, out[:, 4:5], out[:, 5:]
    out = _bilinear(F.pixel_shuffle(_up(state, f"{block}.lastconv.0", x), 2), k)
    return out[:, :4] * k, out[:, 4:5], out[:, 5:]


def _hdv3_block(state: State, block: str, x: Tensor, flow: Tensor, k: int) -> tuple[Tensor, Tensor]:
    x = torch.cat([_bilinear(x, 1 / k), _bilinear(flow, 1 / k) / k], 1)
    for layer in range(2):
        x = F.prelu(_conv(state, f"{block}.conv0.{layer}.0", x, stride=2), state[f"{block}.conv0.{layer}.1.weight"])
    for pair in range(4):
        before = x
        for layer in range(2):
            name = f"{block}.convblock{pair}.{layer}"
            x = F.prelu(_conv(state, f"{name}.0", x), state[f"{name}.1.weight"])
        x = x + before
    outs = []
    for branch in ("conv1", "conv2"):
        half = F.prelu(_up(state, f"{block}.{branch}.0", x), state[f"{block}.{branch}.1.weight"])
        outs.append(_bilinear(_up(state, f"{block}.{branch}.2", half), k))
    return outs[0] * k, outs[1]


def _activated(spec: Spec, state: State, name: str, x: Tensor) -> Tensor:
    return F.prelu(x, state[f"{name}.weight"]) if spec.body == "P" else F.leaky_relu(x, 0.2)


def _conv(state: State, name: str, x: Tensor, *, stride: int = 1, groups: int = 1) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=stride, padding=1, groups=groups)


def _up(state: State, name: str, x: Tensor) -> Tensor:
    return F.conv_transpose2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=2, padding=1)


def _bilinear(x: Tensor, factor: float) -> Tensor:
    return x if factor == 1 else F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
