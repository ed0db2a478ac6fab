"""Load images. Axes: H height, W width, C channels."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from actors import images
from actors.settings import ImageSettings
from actors.stages.attempts import Attempts
from actors.stages.ledger import Answer
from actors.stages.row import NO_IMAGE, WELL, Row, pack
from actors.storage import Storage


def load_image(
    row: Row, *, storage: Storage, settings: ImageSettings, attempts: Attempts, answer: Answer | None = None
) -> Row:
    """Fetch, decode, orient and fit one image.

    In: what `WORK_SCHEMA` says. Out: the same without `image_bytes` and `problem`, and
    `image_HWC` (uint8), `image_sha256`, `image_width`, `image_height`, `load_s`, `stage`, `error_type`, `error`.
    """
    data, problem = row.pop("image_bytes"), row.pop("problem")
    row |= {"image_HWC": NO_IMAGE, "image_sha256": "", "image_width": 0, "image_height": 0, "load_s": 0.0, **WELL}
    if problem:
        return {**row, "stage": "manifest", "error_type": "ManifestError", "error": problem}
    return attempts.attempt(row, "load", lambda row: _load(row, data, storage, settings), answer)


def load_images(
    batch: pa.Table, *, attempts: Attempts, load: Callable[..., Row] = load_image, **options: Any
) -> Iterator[dict[str, Any]]:
    """`load(row, **options)` for each row of a batch (`WORK_SCHEMA`), packed and given out one by one.

    Where a row ends the process, Ray runs the batch again: what was given out is taken as given, the rows come in the
    same order, and the ledger counts each row's tries for itself.
    """
    attempts.end_with_node()
    rows = batch.to_pylist()
    try:
        answers = attempts.begin_together([row["clip_id"] for row in rows if not row["problem"]], "load")
        for row in rows:
            yield pack(load(row, attempts=attempts, answer=answers.get(row["clip_id"]), **options))
    finally:
        attempts.ledger.flush()  # a task's ledger ends with it


def _load(row: Row, data: bytes | None, storage: Storage, settings: ImageSettings) -> Row:
    started = time.perf_counter()
    image = images.decode(
        storage.read_bytes(row["image_uri"], max_bytes=settings.max_bytes) if data is None else data,
        max_megapixels=settings.max_megapixels,
        max_bytes=settings.max_bytes,
    )
    width, height = images.clip_size(image.width, image.height, settings)
    pixels_HWC = images.fit(
        image.pixels_HWC, width=width, height=height, mode=settings.fit, pad_color=settings.pad_color
    )
    facts = {"image_sha256": image.sha256, "image_width": image.width, "image_height": image.height}
    return {**row, **facts, "image_HWC": pixels_HWC, "load_s": time.perf_counter() - started}
