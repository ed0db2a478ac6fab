"""The names of SVD's weights in one file, as its makers and ComfyUI have them, and in diffusers' folders: both ways.

| in the file | in a folder |
|---|---|
| `model.diffusion_model.` | `unet`, one to one |
| `first_stage_model.decoder.` | `vae`, the decoder |
| `conditioner.embedders.3.encoder.encoder.`, `.quant_conv.` | `vae`, the encoder |
| `conditioner.embedders.0.open_clip.model.visual.` | `image_encoder`: q, k and v in one, the projection transposed |

All else in a file is known by name (`is_ballast`). Rules are tables of pieces of names, read in both directions; how
deep the networks are comes from the names themselves (`Depths`). No torch here: the driver reads this, too.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

UNET = "model.diffusion_model."
FIRST_STAGE = "first_stage_model."
IMAGE_VAE = "conditioner.embedders.3.encoder."
OPEN_CLIP = "conditioner.embedders.0.open_clip.model."
VISUAL = f"{OPEN_CLIP}visual."

# How a tensor of the file becomes one of the folder: as it is; transposed; without the sides of a kernel of one pixel;
# or one third of its rows.
Cut = Literal["same", "transposed", "flat", "first", "second", "third"]
THIRDS: tuple[Cut, Cut, Cut] = ("first", "second", "third")

# Held twice in a file, or of the text side of CLIP, and used by nobody.
_BALLAST = re.compile(
    "|".join(
        (
            re.escape(FIRST_STAGE) + r"encoder\..*",
            re.escape(IMAGE_VAE) + r"(decoder|post_quant_conv)\..*",
            re.escape(OPEN_CLIP)
            + r"(ln_final\.(weight|bias)|logit_scale|positional_embedding|text_projection|attn_mask"
            + r"|token_embedding\.weight)",
            r"conditioner\.embedders\.0\.(mean|std)",
        )
    )
)

Pairs = tuple[tuple[str, str], ...]
_RESNET: Pairs = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
)
_UNET_RESNET: Pairs = (
    *((f"time_stack.{theirs}", f"temporal_res_block.{ours}") for theirs, ours in _RESNET),
    *((theirs, f"spatial_res_block.{ours}") for theirs, ours in _RESNET),
    ("skip_connection", "spatial_res_block.conv_shortcut"),
    ("time_mixer", "time_mixer"),
)
_UNET_ATTENTION: Pairs = (
    ("time_stack", "temporal_transformer_blocks"),
    ("time_pos_embed.0", "time_pos_embed.linear_1"),
    ("time_pos_embed.2", "time_pos_embed.linear_2"),
    *((name, name) for name in ("transformer_blocks", "norm", "proj_in", "proj_out", "time_mixer")),
)
_UNET_ENDS: Pairs = (
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
)
_VAE_RESNET: Pairs = (
    *((name, name) for name in ("norm1", "conv1", "norm2", "conv2")),
    ("nin_shortcut", "conv_shortcut"),
)
_DECODER_RESNET: Pairs = (
    *((f"time_stack.{theirs}", f"temporal_res_block.{ours}") for theirs, ours in _RESNET if "emb" not in theirs),
    *((theirs, f"spatial_res_block.{ours}") for theirs, ours in _VAE_RESNET),
    ("mix_factor", "time_mixer.mix_factor"),
)
_VAE_ATTENTION: Pairs = (("norm", "group_norm"), ("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0"))
_VAE_ENDS: Pairs = (
    ("conv_out.time_mix_conv", "time_conv_out"),
    ("conv_in", "conv_in"),
    ("conv_out", "conv_out"),
    ("norm_out", "conv_norm_out"),
)
_CLIP_BLOCK: Pairs = (
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("attn.out_proj", "self_attn.out_proj"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)
_CLIP_ENDS: Pairs = (
    ("class_embedding", "vision_model.embeddings.class_embedding"),
    ("positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("conv1", "vision_model.embeddings.patch_embedding"),
    ("ln_pre", "vision_model.pre_layrnorm"),
    ("ln_post", "vision_model.post_layernorm"),
    ("proj", "visual_projection.weight"),
)
_QKV = ("q_proj", "k_proj", "v_proj")


class Target(NamedTuple):
    """A tensor of a folder, and how it is cut from that of the file."""

    component: str
    name: str
    cut: Cut = "same"


@dataclass(frozen=True, slots=True)
class Depths:
    """What numbers in names depend on.

    Attributes:
        unet_layers: residual blocks of each level of the UNet on its way down.
        vae_levels: levels of the VAE.
    """

    unet_layers: int = 2
    vae_levels: int = 4

    @classmethod
    def of_file(cls, names: Iterable[str]) -> "Depths":
        """Of the names in one file."""
        first_down, levels = 0, 0
        for name in names:
            if found := re.match(re.escape(UNET) + r"input_blocks\.(\d+)\.0\.op\.", name):
                first_down = min(first_down or int(found[1]), int(found[1]))
            elif found := re.match(re.escape(FIRST_STAGE) + r"decoder\.up\.(\d+)\.", name):
                levels = max(levels, int(found[1]) + 1)
        return cls(first_down - 1 if first_down > 1 else 2, levels or 4)

    @classmethod
    def of_unet(cls, names: Iterable[str]) -> "Depths":
        """Of the names in diffusers' UNet alone."""
        found = [re.match(r"down_blocks\.0\.resnets\.(\d+)\.", name) for name in names]
        return cls(max((int(match[1]) + 1 for match in found if match), default=2))


def is_ballast(name: str) -> bool:
    """Whether a tensor of a file is known, and not needed."""
    return _BALLAST.fullmatch(name) is not None


def to_diffusers(name: str, depths: Depths) -> list[Target]:
    """What a tensor of the file becomes; nothing where the name is none of SVD's, or of its ballast."""
    if is_ballast(name):
        return []
    if name.startswith(UNET):
        found = unet_to_diffusers(name.removeprefix(UNET), depths)
        return [Target("unet", found)] if found else []
    if name.startswith(VISUAL):
        return _visual_to_diffusers(name.removeprefix(VISUAL))
    for prefix in (FIRST_STAGE, IMAGE_VAE):
        if name.startswith(prefix):
            inner = name.removeprefix(prefix)
            if prefix == IMAGE_VAE and inner.startswith("quant_conv."):
                return [Target("vae", inner)]
            if found := _vae_to_diffusers(inner, depths):
                return [Target("vae", found, "flat" if _is_flattened(found) else "same")]
    return []


def to_original(component: str, name: str, depths: Depths) -> tuple[str, Cut]:
    """Which tensor of the file holds one of a folder, and where in it: the inverse of `to_diffusers`.

    Raises KeyError for a name that is none of SVD's.
    """
    if component == "unet":
        return UNET + unet_to_original(name, depths), "same"
    if component == "image_encoder":
        theirs, cut = _visual_to_original(name)
        return VISUAL + theirs, cut
    if name.startswith("quant_conv."):
        return IMAGE_VAE + name, "same"
    prefix = IMAGE_VAE if name.startswith("encoder.") else FIRST_STAGE
    return prefix + _vae_to_original(name, depths), "flat" if _is_flattened(name) else "same"


def unet_to_diffusers(name: str, depths: Depths) -> str | None:
    """A name within the UNet; None where it is none of SVD's."""
    per_level = depths.unet_layers + 1
    if found := re.fullmatch(r"(input|output|middle)_block(?:s\.(\d+))?\.(\d+)\.(.*)", name):
        side, block, place, inner = found[1], int(found[2] or 0), int(found[3]), found[4]
        if side == "input" and block:
            level, number = divmod(block - 1, per_level)
            if place == 0 and inner.startswith("op."):
                return f"down_blocks.{level}.downsamplers.0.conv.{inner[3:]}"
            return _block_to_diffusers(f"down_blocks.{level}", number, place, inner)
        if side == "output":
            level, number = divmod(block, per_level)
            if place and inner.startswith("conv."):
                return f"up_blocks.{level}.upsamplers.0.{inner}"
            return _block_to_diffusers(f"up_blocks.{level}", number, place, inner)
        if side == "middle":
            return _block_to_diffusers("mid_block", place // 2, place % 2, inner)
    return _renamed(name, _UNET_ENDS)


def _block_to_diffusers(level: str, number: int, place: int, inner: str) -> str | None:
    kind, pairs = ("resnets", _UNET_RESNET) if place == 0 else ("attentions", _UNET_ATTENTION)
    found = _renamed(inner, pairs) if place in (0, 1) else None
    return f"{level}.{kind}.{number}.{found}" if found else None


def unet_to_original(name: str, depths: Depths) -> str:
    """A name within diffusers' UNet, as the file has it. Raises KeyError."""
    per_level = depths.unet_layers + 1
    if found := re.fullmatch(r"(down|up|mid)_block(?:s\.(\d+))?\.(\w+)\.(\d+)\.(.*)", name):
        side, level, kind, number, inner = found[1], int(found[2] or 0), found[3], int(found[4]), found[5]
        if kind == "downsamplers":
            return f"input_blocks.{(level + 1) * per_level}.0.op.{inner.removeprefix('conv.')}"
        if kind == "upsamplers":  # the innermost level has no attention before it
            return f"output_blocks.{(level + 1) * per_level - 1}.{2 if level else 1}.{inner}"
        place = 0 if kind == "resnets" else 1
        theirs = _renamed_back(inner, _UNET_ATTENTION if place else _UNET_RESNET)
        if side == "mid":
            return f"middle_block.{2 * number + place}.{theirs}"
        first = 1 if side == "down" else 0
        return f"{'input' if first else 'output'}_blocks.{level * per_level + number + first}.{place}.{theirs}"
    return _renamed_back(name, _UNET_ENDS)


def _vae_to_diffusers(name: str, depths: Depths) -> str | None:
    half, _, inner = name.partition(".")
    if half not in ("encoder", "decoder"):
        return None
    resnet = _VAE_RESNET if half == "encoder" else _DECODER_RESNET
    if found := re.fullmatch(r"(down|up)\.(\d+)\.block\.(\d+)\.(.*)", inner):
        level = int(found[2]) if half == "encoder" else depths.vae_levels - 1 - int(found[2])
        made, place = _renamed(found[4], resnet), f"{found[1]}_blocks.{level}.resnets.{found[3]}"
    elif found := re.fullmatch(r"(down|up)\.(\d+)\.((?:down|up)sample)\.(conv\..*)", inner):
        level = int(found[2]) if half == "encoder" else depths.vae_levels - 1 - int(found[2])
        made, place = found[4], f"{found[1]}_blocks.{level}.{found[3]}rs.0"
    elif found := re.fullmatch(r"mid\.(block|attn)_(\d)\.(.*)", inner):
        made = _renamed(found[3], resnet if found[1] == "block" else _VAE_ATTENTION)
        place = f"mid_block.{'resnets' if found[1] == 'block' else 'attentions'}.{int(found[2]) - 1}"
    else:
        ends = _renamed(inner, _VAE_ENDS)
        return f"{half}.{ends}" if ends else None
    return f"{half}.{place}.{made}" if made else None


def _vae_to_original(name: str, depths: Depths) -> str:
    half, _, inner = name.partition(".")
    resnet = _VAE_RESNET if half == "encoder" else _DECODER_RESNET
    if found := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", inner):
        level = int(found[2]) if half == "encoder" else depths.vae_levels - 1 - int(found[2])
        if found[3] == "resnets":
            return f"{half}.{found[1]}.{level}.block.{found[4]}.{_renamed_back(found[5], resnet)}"
        return f"{half}.{found[1]}.{level}.{found[3].removesuffix('rs')}.{found[5]}"
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", inner):
        kind, pairs = ("block", resnet) if found[1] == "resnets" else ("attn", _VAE_ATTENTION)
        return f"{half}.mid.{kind}_{int(found[2]) + 1}.{_renamed_back(found[3], pairs)}"
    return f"{half}.{_renamed_back(inner, _VAE_ENDS)}"


def _is_flattened(vae_name: str) -> bool:
    """Whether it is a matrix, where the file has a kernel of one pixel."""
    return ".attentions." in vae_name and vae_name.endswith(".weight") and ".group_norm." not in vae_name


def _visual_to_diffusers(name: str) -> list[Target]:
    if found := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.*)", name):
        layer = f"vision_model.encoder.layers.{found[1]}"
        if inner := re.fullmatch(r"attn\.in_proj_(weight|bias)", found[2]):
            parts = zip(_QKV, THIRDS, strict=True)
            return [Target("image_encoder", f"{layer}.self_attn.{part}.{inner[1]}", cut) for part, cut in parts]
        ours = _renamed(found[2], _CLIP_BLOCK)
        return [Target("image_encoder", f"{layer}.{ours}")] if ours else []
    ours = _renamed(name, _CLIP_ENDS)
    return [Target("image_encoder", ours, "transposed" if name == "proj" else "same")] if ours else []


def _visual_to_original(name: str) -> tuple[str, Cut]:
    if found := re.fullmatch(r"vision_model\.encoder\.layers\.(\d+)\.(.*)", name):
        block = f"transformer.resblocks.{found[1]}"
        if inner := re.fullmatch(r"self_attn\.([qkv]_proj)\.(weight|bias)", found[2]):
            return f"{block}.attn.in_proj_{inner[2]}", THIRDS[_QKV.index(inner[1])]
        return f"{block}.{_renamed_back(found[2], _CLIP_BLOCK)}", "same"
    theirs = _renamed_back(name, _CLIP_ENDS)
    return theirs, "transposed" if theirs == "proj" else "same"


def _renamed(name: str, pairs: Pairs) -> str | None:
    """With its beginning exchanged by the first pair that fits."""
    return next(_exchanged(name, pairs), None)


def _renamed_back(name: str, pairs: Pairs) -> str:
    for found in _exchanged(name, tuple((ours, theirs) for theirs, ours in pairs)):
        return found
    raise KeyError(name)


def _exchanged(name: str, pairs: Pairs) -> Iterator[str]:
    for old, new in pairs:
        if name == old or name.startswith(f"{old}."):
            yield new + name[len(old) :]
