"""The dataset card: what a reader of the dataset, and `datasets.load_dataset`, find first."""

from contextlib import suppress

from actors.errors import StorageError
from actors.storage import Storage
from pipelines.dataset.card_licences import Licences, section, with_section
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

Made by stillreel: a generator (the column `generator`) animates each image. Where the column
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

"""


def write(layout: Layout, storage: Storage, licences: Licences | None = None) -> None:
    """Put the card into the dataset; of one that is there, the section on licences gets what is new.

    A card that somebody has edited stays as it is beside that section.
    """
    licences = licences or Licences()
    if not storage.exists(layout.card):
        storage.put_bytes(layout.card, (_CARD + section(licences)).encode())
        return
    # Several shards may do so at once, and say the same. What one does not get to add, the next run of its kind does.
    with suppress(StorageError, UnicodeDecodeError):
        version = storage.version(layout.card)
        card = storage.read_bytes(layout.card).decode()
        if (changed := with_section(card, licences)) != card:
            storage.replace_bytes(layout.card, changed.encode(), version)
