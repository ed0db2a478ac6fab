"""Small checkpoints of diffusers' image-to-video pipelines: real classes, random weights, nothing downloaded."""

from collections.abc import Callable
from pathlib import Path

from tests.tiny_pipelines import cogvideox, cosmos, hunyuan, hunyuan15, kandinsky5, ltx, ltx2, sana, skyreels, wan
from tests.tiny_pipelines.base import Tiny

TINY: dict[str, Tiny] = {
    tiny.name: tiny
    for family in (ltx, wan, cogvideox, ltx2, hunyuan, hunyuan15, kandinsky5, skyreels, sana, cosmos)
    for tiny in family.TINY
}
SAVERS: dict[str, Callable[[Path], None]] = {name: tiny.save for name, tiny in TINY.items()}

__all__ = ["SAVERS", "TINY", "Tiny"]
