"""The network that a file's tensors belong to, without numbers."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from actors.rife.hdv3 import HDv3
from actors.rife.ifnet import IFNet
from actors.rife.network import Network
from actors.rife.signatures import shown_by


def identify(state: Mapping[str, Tensor], own_name: str | None, path: Path) -> Network:
    """The network (on torch's `meta` device) of tensors under our names.

    Raises CheckpointError as `shown_by` does.
    """
    shown = shown_by({name: tuple(tensor.shape) for name, tensor in state.items()}, own_name, path)
    with torch.device("meta"):  # no random weights first, which would take longer than reading
        return HDv3(shown) if isinstance(shown, int) else IFNet(shown)
