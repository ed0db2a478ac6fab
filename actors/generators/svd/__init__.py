"""Stable Video Diffusion as a generator: its settings, and the class that wraps the networks of `actors.svd`."""
