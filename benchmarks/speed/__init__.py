"""Seconds and memory of a clip against stock diffusers; `benchmarks.speed.__main__` is the command.

cases     the clips that are made
clips     both models, and a clip by each
clock     seconds and peaks
results   rows, aims, the table
bench     what the parts for a GPU share
parts     which there are, in which order, and what each needs; one module for each or two
cpu       without a GPU
hosted    the same of pipelines of diffusers
"""

import time

BEGUN = time.perf_counter()  # before torch is imported, so that a budget counts that too
