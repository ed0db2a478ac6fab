"""Reading RIFE weights from the files of the ncnn runtime: a text `.param` with the layers, a `.bin` with the numbers.

The `.bin` holds, in the order of the layers in the `.param`: for a convolution a tag (uint32), the weights and the
fp32 bias; for `MemoryData` (the `beta` of a residual convolution) and for `PReLU` (slopes) bare fp32. Everything is
little-endian.
The layers have no dependable names, but their order is that of the network: the head once for either frame, then the
blocks, and each of these parts ends with its only deconvolution. Behind the blocks 4.0 to 4.4 may have a second stage
(`fastFalse`), which is not used. A file that runs each block a second time with the sides swapped (`ensembleTrue`) has
each of them twice.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from actors.errors import CheckpointError
from actors.rife.ifnet import BLOCK_CONVS

MAGIC = "7767517"  # first line of every text .param
TAG_FP32 = 0
TAG_FP16 = 0x01306B47
ALIGNMENT = 4  # bytes to which fp16 weights are filled up

# Keys of a layer's parameters in the .param.
OUTPUT_CHANNELS, KERNEL_SIZE, BIAS, WEIGHT_COUNT = 0, 1, 5, 6  # of a convolution
SLOPES = 0  # of a PReLU
EXTENTS = (0, 1, 2)  # of MemoryData: width, height, channels

CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise", "Deconvolution")
BLOCK_LAYERS = 2 + BLOCK_CONVS + 1
HEAD_LAYERS = {4: ("cnn0", "cnn1", "cnn2", "cnn3"), 2: ("0", "1")}  # the shorter one is that of 4.7 to 4.9
BARE_TAIL = 5  # outputs of the last layer, which no pixel shuffle follows: 4.0 to 4.4


class Convolution(NamedTuple):
    """What the file holds of one, and of the PReLU behind it."""

    weight: Tensor
    bias: Tensor
    slopes: Tensor | None = None


@dataclass(frozen=True)
class Layer:
    """One line of the `.param`."""

    kind: str
    name: str
    parameters: dict[int, str]

    def number(self, key: int) -> int:
        """A parameter; ncnn leaves out those that are 0."""
        return int(self.parameters.get(key, "0"))


def read(path: Path) -> dict[str, Tensor]:
    """The tensors, fp32, under the names of `IFNet`; `path` is the `.param` or the `.bin` beside it.

    Raises CheckpointError when either file is missing, damaged, or not a network of RIFE 4's kind.
    """
    layers = _read_layers(path.with_suffix(".param"))
    numbers = _Numbers(path.with_suffix(".bin"))
    parts: list[list[Convolution]] = [[]]
    betas: list[Tensor] = []
    for layer in layers:
        if layer.kind == "MemoryData":
            betas.append(numbers.beta(layer))
        elif layer.kind == "PReLU" and parts[-1]:
            parts[-1][-1] = parts[-1][-1]._replace(slopes=numbers.slopes(layer))
        elif layer.kind in CONVOLUTIONS:
            parts[-1].append(numbers.convolution(layer))
            if layer.kind == "Deconvolution":
                parts.append([])
    numbers.expect_end()
    return _named(parts[:-1], betas, path)


def _read_layers(path: Path) -> list[Layer]:
    try:
        magic, _, *lines = path.read_text(encoding="ascii").splitlines()
        layers = [_parse(line) for line in lines if line.strip()]
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file; ncnn weights are a .param and a .bin together") from None
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"{path}: this is not a text .param file of ncnn: {error}") from error
    if magic.strip() != MAGIC:
        raise CheckpointError(f"{path}: this is not a text .param file of ncnn (it does not begin with {MAGIC})")
    return layers


def _parse(line: str) -> Layer:
    """A line is `kind name input_count output_count inputs... outputs... key=value...`."""
    kind, name, input_count, output_count, *rest = line.split()
    settings = rest[int(input_count) + int(output_count) :]
    pairs = (setting.split("=", 1) for setting in settings)
    return Layer(kind, name, {int(key): value for key, value in pairs})


class _Numbers:
    """The `.bin`, read from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise CheckpointError(f"{path}: there is no such file; ncnn weights are a .param and a .bin together")
        self.path = path
        self.content = path.read_bytes()
        self.offset = 0

    def convolution(self, layer: Layer) -> Convolution:
        """Weight and bias as PyTorch has them: (out,in,k,k), and (in,out,k,k) for a deconvolution."""
        outputs, kernel = layer.number(OUTPUT_CHANNELS), layer.number(KERNEL_SIZE)
        fan_out = outputs * kernel * kernel
        if not layer.number(BIAS) or fan_out == 0 or layer.number(WEIGHT_COUNT) % fan_out:
            raise CheckpointError(f"{self.path}: layer {layer.name} of the .param is not one that RIFE 4 has")
        weight = self._weights(layer).view(outputs, -1, kernel, kernel)
        if layer.kind == "Deconvolution":
            weight = weight.transpose(0, 1)
        return Convolution(weight, self._take(outputs, "<f4", layer))

    def beta(self, layer: Layer) -> Tensor:
        """The factors of a residual convolution, (1,C,1,1)."""
        count = int(np.prod([max(1, layer.number(key)) for key in EXTENTS]))
        return self._take(count, "<f4", layer).view(1, -1, 1, 1)

    def slopes(self, layer: Layer) -> Tensor:
        """Of a PReLU, (C,)."""
        return self._take(layer.number(SLOPES), "<f4", layer)

    def expect_end(self) -> None:
        if self.offset != len(self.content):
            raise CheckpointError(
                f"{self.path}: {len(self.content)} bytes, but the .param describes {self.offset}: "
                "the two files do not belong together"
            )

    def _weights(self, layer: Layer) -> Tensor:
        tag = int(self._take(1, "<u4", layer).item())
        if tag not in (TAG_FP32, TAG_FP16):
            raise CheckpointError(f"{self.path}: layer {layer.name} is neither fp32 nor fp16 (tag {tag:#010x})")
        weights = self._take(layer.number(WEIGHT_COUNT), "<f2" if tag == TAG_FP16 else "<f4", layer)
        self.offset += -self.offset % ALIGNMENT
        return weights

    def _take(self, count: int, dtype: str, layer: Layer) -> Tensor:
        size = count * np.dtype(dtype).itemsize
        if self.offset + size > len(self.content):
            raise CheckpointError(f"{self.path}: the file ends within layer {layer.name}: it is cut off")
        numbers = np.frombuffer(self.content, dtype, count, self.offset)
        self.offset += size
        return torch.from_numpy(numbers.astype(np.int64 if dtype == "<u4" else np.float32))


def _named(parts: list[list[Convolution]], betas: list[Tensor], path: Path) -> dict[str, Tensor]:
    """Names by position; a file without any beta has them folded into its convolutions."""
    heads = [part for part in parts if len(part) in HEAD_LAYERS]
    blocks = [part for part in parts if len(part) == BLOCK_LAYERS]
    has_bare_tail = bool(blocks) and len(blocks[0][-1].bias) == BARE_TAIL
    sizes, wanted = [len(part) for part in parts], [len(part) for part in heads + blocks]
    is_whole = sizes[: len(wanted)] == wanted and (has_bare_tail or len(sizes) == len(wanted))
    if not blocks or len(heads) not in (0, 2) or not is_whole:
        raise CheckpointError(
            f"{path}: its layers are not those of a RIFE 4 network (RIFE 1.x to 3.x of ncnn is not supported)"
        )
    blocks = _each_once(blocks, path)
    is_residual = not has_bare_tail
    beta_count = len(blocks) * BLOCK_CONVS if is_residual else 0
    if len(betas) not in (0, beta_count):
        raise CheckpointError(f"{path}: {len(betas)} MemoryData layers, but RIFE with these blocks has {beta_count}")
    state: dict[str, Tensor] = {}
    for head in heads[:1]:  # the second one is the same layers again, for the other frame
        for name, convolution in zip(HEAD_LAYERS[len(head)], head, strict=True):
            state |= _tensors(f"head.{name}", convolution)
    for index, block in enumerate(blocks):
        first, second, *body, last = block
        prefix = f"blocks.{index}"
        state |= _tensors(f"{prefix}.conv0.0.0", first) | _tensors(f"{prefix}.conv0.1.0", second)
        for position, convolution in enumerate(body):
            name = f"{prefix}.convblock.{position}"
            state |= _tensors(f"{name}.conv" if is_residual else f"{name}.0", convolution)
            if is_residual:
                beta = torch.ones(1, len(convolution.bias), 1, 1)
                state[f"{name}.beta"] = betas[index * BLOCK_CONVS + position] if betas else beta
        state |= _tensors(f"{prefix}.lastconv" if has_bare_tail else f"{prefix}.lastconv.0", last)
    return state


def _each_once(blocks: list[list[Convolution]], path: Path) -> list[list[Convolution]]:
    """The blocks of a network that runs them twice with its sides swapped; others as they are.

    There the first two have the same inputs. Nowhere else do they: the first block sees neither mask nor flow.
    """
    if len(blocks) == 1 or blocks[0][0].weight.shape != blocks[1][0].weight.shape:
        return blocks
    twins = list(zip(blocks[::2], blocks[1::2], strict=False))
    if len(blocks) % 2 or not all(_are_equal(one, other) for one, other in twins):
        raise CheckpointError(
            f"{path}: its blocks come twice, but not with the same numbers: use the ensembleFalse file"
        )
    return [one for one, _ in twins]


def _are_equal(one: list[Convolution], other: list[Convolution]) -> bool:
    return all(torch.equal(a.weight, b.weight) and torch.equal(a.bias, b.bias) for a, b in zip(one, other, strict=True))


def _tensors(name: str, convolution: Convolution) -> dict[str, Tensor]:
    """Of a convolution and, under the name that follows on its own, of its PReLU."""
    state = {f"{name}.weight": convolution.weight, f"{name}.bias": convolution.bias}
    if convolution.slopes is not None:
        state[f"{name.removesuffix('.0')}.1.weight"] = convolution.slopes
    return state
