"""Stable Video Diffusion without Ray: find a checkpoint (`checkpoint`), load it (`model`), animate images (`sampler`).

Nothing is imported here: the driver looks checkpoints up and must not wait for torch.
"""
