"""The dataset card: what a reader of the dataset, and `datasets.load_dataset`, find first."""

from actors.storage import Storage
from pipelines.dataset.layout import Layout

# `configs` keeps the loader to data/: without it the Parquet files of failures/ can be taken for the dataset.
_CARD = """\
---
configs:
  - config_name: default
    data_files:
      - split: train
        path: data/**
tags:
  - video
  - stillreel
---

# Video clips made from still images

Made by [stillreel]: a generator (the column `generator`) animates each image. Where the column
`interpolation_model` names a RIFE model, that one has added frames in between.

| where | what |
|---|---|
| `data/part-*/metadata.parquet` | one row per clip; `file_name` is relative to that folder |
| `data/part-*/<clip_id>.*` | the clips; a file never changes once it is there |
| `failures/part-*.parquet` | rows that could not be made, with the stage and the reason |
| `_runs/<run_id>/` | the configuration and the summary of each run |

```python
from datasets import load_dataset
clips = load_dataset("PATH OF THIS FOLDER/data", split="train")  # without /data it would not notice later clips

import duckdb
print(duckdb.sql("SELECT file_name, image_uri, duration_s FROM 'PATH OF THIS FOLDER/data/*/metadata.parquet'"))
```

The clips inherit the licences of the images and of the checkpoints that made them.
"""


def write(layout: Layout, storage: Storage) -> None:
    """Put the card into the dataset unless it already has one: a card that somebody has edited stays."""
    if not storage.exists(layout.card):
        storage.put_bytes(layout.card, _CARD.encode())
