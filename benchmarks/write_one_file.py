"""Write an SVD folder in diffusers layout as one file in the original layout, as ComfyUI loads it.

    python -m benchmarks.write_one_file FOLDER FILE.safetensors

What the original holds twice, or of the text side of CLIP, is written as well, so that the names are all there.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from actors.svd import layout
from actors.svd.original import FIRST_STAGE, IMAGE_VAE, OPEN_CLIP, THIRDS, Depths, to_original

Networks = Mapping[str, Mapping[str, Tensor]]


def original_tensors(networks: Networks) -> dict[str, Tensor]:
    """The tensors of one file, of those of `unet`, `vae` and `image_encoder`; these may be on the device "meta"."""
    unet_layers = Depths.of_unet(networks["unet"]).unet_layers
    levels = {name.split(".")[2] for name in networks["vae"] if name.startswith("decoder.up_blocks.")}
    depths = Depths(unet_layers, len(levels))
    made: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    for component, tensors in networks.items():
        for name, tensor in tensors.items():
            theirs, cut = to_original(component, name, depths)
            if cut in THIRDS:
                thirds.setdefault(theirs, {})[cut] = tensor
            else:
                made[theirs] = _uncut(tensor, cut)
    made |= {name: torch.cat([parts[cut] for cut in THIRDS]) for name, parts in thirds.items()}
    return {name: tensor.contiguous().clone() for name, tensor in (made | _ballast(made)).items()}


def _uncut(tensor: Tensor, cut: str) -> Tensor:
    if cut == "transposed":
        return tensor.T
    return tensor[:, :, None, None] if cut == "flat" else tensor


def _ballast(made: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder once more; the spatial half of the decoder, as a decoder of images; of CLIP's text side a norm."""
    encoder, decoder = f"{IMAGE_VAE}encoder.", f"{FIRST_STAGE}decoder."
    copies = {f"{FIRST_STAGE}encoder.{name.removeprefix(encoder)}": t for name, t in made.items() if encoder in name}
    in_time = ("time_stack", "mix_factor", "time_mix_conv")
    for name, tensor in made.items():
        if name.startswith(decoder) and not any(word in name for word in in_time):
            copies[f"{IMAGE_VAE}decoder.{name.removeprefix(decoder)}"] = tensor
    latents = made[f"{decoder}conv_in.weight"].shape[1]
    like = made[f"{decoder}conv_in.weight"]
    copies[f"{IMAGE_VAE}post_quant_conv.weight"] = torch.zeros(latents, latents, 1, 1, dtype=like.dtype)
    copies[f"{IMAGE_VAE}post_quant_conv.bias"] = torch.zeros(latents, dtype=like.dtype)
    return copies | {f"{OPEN_CLIP}ln_final.weight": torch.ones(4), f"{OPEN_CLIP}logit_scale": torch.tensor(1.0)}


def write_one_file(folder: Path, file: Path, *, dtype: torch.dtype | None = None) -> Path:
    """Write the weights of a folder (its plain files, no shards) into `file`, and return that."""
    networks = {name: load_file(folder / name / f"{stem}.safetensors") for name, stem in layout.WEIGHT_STEMS.items()}
    tensors = original_tensors(networks)
    save_file({name: tensor.to(dtype or tensor.dtype) for name, tensor in tensors.items()}, file)
    return file


if __name__ == "__main__":
    write_one_file(Path(sys.argv[1]), Path(sys.argv[2]))
