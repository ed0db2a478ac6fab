"""What a hosted pipeline needs of a GPU, and of its host, in each way of making clips; reckoned without torch.

    resident   all weights                                       + the largest activations of any network
    offload    the weights of the network at work, and the VAE's + its activations
    group      the largest tensor of any network, three times    + the largest activations

Weights are exact (`actors.hosting.weights`). Activations are an estimate on the large side:

    transformer   tokens x width x _UNITS x bytes of a value; twice where guidance is a batch of two
    VAE           pixels x (frames decoded together x _Vae.values + all frames x _VIDEO_VALUES) x bytes of a value
    text encoder  _TEXT_BYTES

The factors were counted, as `benchmarks.memory` counts those of SVD, on tensors without data: the slope between clips
of different length, at the published sizes. No pipeline was measured on a GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from actors.generators.base import MemoryWay
from actors.hosting import sizes
from actors.hosting.classes import Config
from actors.hosting.index import Hosted
from actors.hosting.source_text import doubles_batch
from actors.hosting.weights import Part

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
_FULL_BYTES = 4
# A GPU takes more than is counted (work space, copies into another layout): of SVD, 21.8 GB were measured where 16.9
# are counted (benchmarks/RESULTS.md).
_MEASURED_PER_COUNTED = 1.3
# Of a text encoder: 512 tokens of a network 5,000 wide, with an intermediate layer four times as wide.
_TEXT_BYTES = 500_000_000
_TEXT_TOKENS = 512  # beside those of the clip, where the transformer sees both together
# Of what is computed while the next layer comes, and the one that has gone.
_LAYERS_AT_A_TIME = 3
# A worker beside the weights: PyTorch, CUDA and their libraries, embeddings that are kept, a clip's frames.
_PROCESS_BYTES = 6 * 10**9


class Clip(NamedTuple):
    """What is made: pixels and frames, and whether it is guided."""

    width: int
    height: int
    frames: int
    is_guided: bool


# Counted: for each token and channel, the values that live at the peak of a block.
_UNITS = {"WanTransformer3DModel": 11.1, "HunyuanVideoTransformer3DModel": 18.2, "CogVideoXTransformer3DModel": 13.0}
# Where each token has a time step of its own, each has six modulations, too: counted for Wan 2.2 TI2V-5B. It is the
# most of all, and so stands for the classes that were not counted.
_MOST_UNITS = 32.6


@dataclass(frozen=True, slots=True)
class _Vae:
    """How a class of VAEs decodes: counted for Wan's two (1,230 and 1,350), LTX-Video's and HunyuanVideo-1.5's (898).

    Attributes:
        values: that live at the peak, for each pixel of the frames that are decoded together.
        together: so many frames; 0: the whole clip.
    """

    values: float
    together: int = 0


_VAES = {
    "AutoencoderKLWan": _Vae(1350, together=4),
    "AutoencoderKLLTXVideo": _Vae(52),
    "AutoencoderKLCogVideoX": _Vae(1024, together=8),
}
_OTHER_VAE = _Vae(1024)
# Of a decoded clip, for each pixel of each frame: three channels, four times.
_VIDEO_VALUES = 12
_TILE_PIXELS = 512 * 512  # with model.vae_tiling; most classes take 256 x 256


@dataclass(frozen=True, slots=True)
class Held:
    """How the pipeline is held.

    Attributes:
        parts: the networks by name.
        precision: `model.precision`.
        first: `model.memory`.
        tightens: whether weights may leave the GPU.
        tiled: `model.vae_tiling`.
    """

    parts: Mapping[str, Part]
    precision: str
    first: str = "resident"
    tightens: bool = True
    tiled: bool = False


def memory_ways(hosted: Hosted, held: Held, clip: Clip) -> list[MemoryWay]:
    """From the way that the settings ask for to the tightest that a worker goes on to by itself.

    Their names are those of the clips' `memory_mode` (`actors.hosting.host.MemoryMode`). Empty where the transformer's
    width is not known: a class whose `config.json` has other names for it.
    """
    step, decoding = _step_bytes(hosted, held, clip), _decoding_bytes(hosted, held, clip)
    if not step:
        return []
    parts = held.parts
    weights, most = sum(part.held_bytes for part in parts.values()), max(step, decoding, _TEXT_BYTES)
    vae = parts["vae"].held_bytes if "vae" in parts else 0
    at_work = [vae + decoding]
    for name, part in parts.items():
        if name != "vae":  # which stays on the GPU after it has encoded the image
            at_work.append(part.held_bytes + vae + (step if name.startswith("transformer") else _TEXT_BYTES))
    staying = sum(part.held_bytes for part in parts.values() if part.stays)
    layers = _LAYERS_AT_A_TIME * max(part.largest_bytes for part in parts.values())
    # One network after the other leaves the CPU; those that become 8 bits wait there until all are loaded.
    waits = {name for name in parts if not held.tightens and name.startswith("transformer")}
    passing = max((part.held_bytes for name, part in parts.items() if name not in waits), default=0)
    loading = _PROCESS_BYTES + sum(parts[name].loaded_bytes for name in waits) + passing
    pinned = sum(part.pinned_bytes for part in parts.values())
    ways = [
        MemoryWay("resident", weights + most, loading),
        MemoryWay("offload", max(at_work), _PROCESS_BYTES + weights),
        MemoryWay("group", staying + layers + most, _PROCESS_BYTES + pinned),
    ]
    ways = ways[[way.name for way in ways].index(held.first) :]
    return ways if held.tightens else ways[:1]


def _step_bytes(hosted: Hosted, held: Held, clip: Clip) -> int:
    """What one evaluation of the transformer takes beside its weights; 0: not known."""
    network = hosted.transformer
    values = _tokens(hosted, clip) * _width(network) * _units(hosted)
    passes = 2 if clip.is_guided and doubles_batch(hosted.pipeline) else 1
    return int(values * passes * _BYTES[held.precision] * _MEASURED_PER_COUNTED)


def _decoding_bytes(hosted: Hosted, held: Held, clip: Clip) -> int:
    """What the VAE takes beside its weights."""
    vae = _VAES.get(str(hosted.vae.get("_class_name", "")), _OTHER_VAE)
    pixels = clip.width * clip.height
    tile = min(pixels, _TILE_PIXELS) if held.tiled else pixels
    frames = _at_a_time(hosted, clip)
    values = vae.values * tile * min(frames, vae.together or frames) + _VIDEO_VALUES * pixels * clip.frames
    size = _FULL_BYTES if "vae" in hosted.kind.full else _BYTES[held.precision]
    return int(values * size * _MEASURED_PER_COUNTED)


def _units(hosted: Hosted) -> float:
    """Values for each token and channel."""
    has_own_steps = bool(hosted.index.get("expand_timesteps"))
    return _MOST_UNITS if has_own_steps else _UNITS.get(hosted.transformer_class, _MOST_UNITS)


def _width(network: Config) -> int:
    """Channels of a token; 0 where the configuration has another name for it."""
    heads, each = network.get("num_attention_heads"), network.get("attention_head_dim")
    if isinstance(heads, int) and isinstance(each, int):
        return heads * each
    width = network.get("model_dim")  # of Kandinsky
    return width if isinstance(width, int) else 0


def _tokens(hosted: Hosted, clip: Clip) -> int:
    """Of the transformer: patches of latents, and those of the texts."""
    across = sizes.pixels_per_token(hosted)
    latents = (_at_a_time(hosted, clip) - 1) // sizes.temporal_scale(hosted) + 1
    return (clip.width // across) * (clip.height // across) * latents + _TEXT_TOKENS


def _at_a_time(hosted: Hosted, clip: Clip) -> int:
    """Frames that the networks see together: all; or of FramePack a window, with as much of what came before."""
    return min(clip.frames, 2 * sizes.window_frames(hosted)) if hosted.kind.has_sections else clip.frames
