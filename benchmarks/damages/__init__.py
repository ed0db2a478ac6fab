"""Damages to a dataset, found and mended: `python -m benchmarks.damages`."""
