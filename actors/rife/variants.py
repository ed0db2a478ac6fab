"""Every network of RIFE 4.x, as data: what tells them apart, and which versions are the same one.

Versions of one group have tensors of equal shapes and the same code; only their numbers differ.
"""

from dataclasses import dataclass, replace
from typing import Literal

from actors.rife.channels import FLOW, MASK, RGB

TIME = 1
BLOCK_STRIDE = 4  # a block's two convolutions of stride 2
SUBPIXELS = 4  # a block ends in a pixel shuffle by 2, before which each of its outputs has 4 channels
SPARE = 1  # output channels of a tail of 6 that nobody reads

Body = Literal["residual", "leaky", "prelu"]


@dataclass(frozen=True)
class Variant:
    """What tells one RIFE 4.x network from another; a free choice of `channels` and `head` makes a smaller one."""

    name: str
    channels: tuple[int, ...]  # width of each block, even
    scales: tuple[int, ...]  # each block works on images smaller by this factor
    head: tuple[int, int] | None  # (hidden, output) channels of the per-frame features, or none
    tail: int  # output channels of a block: flow, mask, then features for the next one or a spare channel
    mask: Literal["added", "replaced"]  # what a block's mask does to the one before
    # What a block's convolutions are: scaled by beta, with their input added to each; plain ones with a leaky ReLU; or
    # with a PReLU, and the input of them all added to their output.
    body: Body = "residual"
    head_layers: int = 4  # of 2 layers: without any activation
    groups: int = 1  # into which the channels of a block's convolutions are parted
    has_bare_tail: bool = False  # a block ends in a deconvolution without the pixel shuffle: at half its inputs' size
    restarts: bool = False  # begins anew at twice the scales where motion is large

    @property
    def pad_multiple(self) -> int:
        """Frames are padded to this multiple so that every block divides them evenly."""
        return BLOCK_STRIDE * max(self.scales) * (2 if self.restarts else 1)

    @property
    def features(self) -> int:
        """Channels that a block hands to the next one: none of a single one that is spare."""
        others = self.tail - FLOW - MASK
        return others if others > SPARE else 0

    @property
    def last_channels(self) -> int:
        """Of a block's last layer."""
        return self.tail if self.has_bare_tail else SUBPIXELS * self.tail

    def input_channels(self, block: int) -> int:
        """Channels that go into a block: images, head features and time; later ones see mask, features and flow too."""
        per_frame = RGB + (self.head[1] if self.head else 0)
        first = 2 * per_frame + TIME
        return first if block == 0 else first + MASK + self.features + FLOW


_FINE, _COARSE, _COARSEST = (8, 4, 2, 1), (16, 8, 4, 2, 1), (32, 16, 8, 4, 1)
_W4, _W4_LITE, _W5 = (192, 128, 96, 64), (128, 96, 64, 48), (192, 128, 96, 64, 32)

# By the label that stands where nothing tells which version of a group it is. Of equal shapes: see `Variant`.
# fmt: off
_GROUPS: dict[str, tuple[tuple[str, ...], Variant]] = {
    variant.name: (tuple(versions.split()), variant)
    for versions, variant in (
        ("4.25 4.26", Variant("4.25/4.26", _W5, _COARSE, (16, 4), 13, "replaced")),
        ("4.25.lite", Variant("4.25.lite", (192, 128, 96, 64, 24), _COARSEST, (16, 4), 13, "replaced")),
        ("4.25.heavy", Variant("4.25.heavy", (384, 256, 192, 128, 64), _COARSE, (16, 4), 13, "replaced")),
        ("4.26.heavy", Variant("4.26.heavy", _W5, _COARSE, (16, 16), 13, "replaced")),
        ("4.22.lite", Variant("4.22.lite", (192, 128, 64, 32), _FINE, (16, 4), 13, "replaced")),
        ("4.21 4.22 4.23", Variant("4.21-4.23", (256, 192, 96, 48), _FINE, (32, 8), 13, "replaced")),
        ("4.20", Variant("4.20", (384, 192, 96, 48), _FINE, (32, 8), 6, "replaced")),
        ("4.15.lite 4.16.lite 4.17.lite", Variant("4.15.lite-4.17.lite", _W4_LITE, _FINE, (16, 4), 6, "replaced")),
        ("4.12.lite 4.13.lite", Variant("4.12.lite/4.13.lite", _W4_LITE, _FINE, (32, 4), 6, "replaced")),
        ("4.14.lite", Variant("4.14.lite", _W4, _FINE, (32, 8), 6, "replaced", groups=2)),
        ("4.10 4.11 4.12 4.13 4.14 4.15 4.17 4.18 4.19 4.24",
            Variant("4.10-4.15/4.17-4.19/4.24", _W4, _FINE, (32, 8), 6, "replaced")),
        ("4.7 4.8 4.9", Variant("4.7-4.9", _W4, _FINE, (16, 4), 6, "replaced", head_layers=2)),
        ("4.6", Variant("4.6", _W4, _FINE, None, 6, "added")),
        ("4.5", Variant("4.5", _W4, _FINE, None, 5, "added")),
        ("4.2 4.3 4.4", Variant("4.2-4.4", _W4, _FINE, None, 5, "added", "leaky", has_bare_tail=True)),
        ("4.0 4.1", Variant("4.0/4.1", _W4, _FINE, None, 5, "added", "prelu", has_bare_tail=True, restarts=True)),
    )
}
# fmt: on

GROUPS = {label: variant for label, (_, variant) in _GROUPS.items()}

VARIANTS = {version: replace(variant, name=version) for versions, variant in _GROUPS.values() for version in versions}

DEFAULT_VARIANT = VARIANTS["4.25"]


def versions_of(group: Variant) -> tuple[str, ...]:
    """The versions of a group out of `GROUPS`."""
    return _GROUPS[group.name][0]
