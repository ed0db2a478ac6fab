"""Stable Video Diffusion without Ray: find a checkpoint, load it, animate images with it."""

from actors.svd.checkpoint import locate, revision_of
from actors.svd.conditioning import ClipParameters
from actors.svd.model import SvdModel, load
from actors.svd.sampler import GeneratedClips, check_size, generate

__all__ = ["ClipParameters", "GeneratedClips", "SvdModel", "check_size", "generate", "load", "locate", "revision_of"]
