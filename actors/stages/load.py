"""Load images. Axes: H height, W width, C channels."""

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from actors import images
from actors.embedded import EmbeddedImages, Place
from actors.errors import ImageError
from actors.records import PLACE_FIELDS
from actors.settings import ImageSettings
from actors.stages.attempts import Attempts
from actors.stages.feed import IMAGES_PER_TASK
from actors.stages.ledger import Answer
from actors.stages.row import NO_IMAGE, WELL, Row, pack
from actors.storage import Storage


class Loader:
    """Fetches, decodes, orients and fits images, one after the other; the same one again costs nothing."""

    def __init__(self, storage: Storage, settings: ImageSettings) -> None:
        self._storage, self._settings = storage, settings
        self._embedded = EmbeddedImages(storage)
        self._last: tuple[Place | str, Row] | None = None

    def load(self, row: Row) -> Row:
        """Of a work row's image: `image_HWC` (uint8), `image_sha256`, `image_width`, `image_height`, `image_uri`.

        Raises:
            ImageError: there is none, or it cannot be used.
            StorageError: it cannot be read.
        """
        source = Place.of(row) or str(row["image_uri"])
        if self._last is None or self._last[0] != source:
            self._last = None
            uri, data = self._fetch(row)
            self._last = source, {"image_uri": uri, **self._decode(data)}
        return self._last[1]

    def close(self) -> None:
        """Let go of files that are open."""
        self._embedded.close()

    def _fetch(self, row: Row) -> tuple[str, bytes]:
        uri, place = row["image_uri"], Place.of(row)
        if place is not None:
            if data := self._embedded.read(place):
                return uri, data
            uri = row["image_fallback"]
            if uri is None:
                raise ImageError(f"there is no image in {place}, and no URI that may be fetched")
        return uri, self._storage.read_bytes(uri, max_bytes=self._settings.max_bytes)

    def _decode(self, data: bytes) -> Row:
        settings = self._settings
        image = images.decode(data, max_megapixels=settings.max_megapixels, max_bytes=settings.max_bytes)
        width, height = images.clip_size(image.width, image.height, settings)
        pixels_HWC = images.fit(
            image.pixels_HWC, width=width, height=height, mode=settings.fit, pad_color=settings.pad_color
        )
        facts = {"image_sha256": image.sha256, "image_width": image.width, "image_height": image.height}
        return {**facts, "image_HWC": pixels_HWC}


def load_image(row: Row, *, loader: Loader, attempts: Attempts, answer: Answer | None = None) -> Row:
    """Load the image of one row.

    In: what `WORK_SCHEMA` says. Out: the same without `PLACE_FIELDS` and `problem`, and
    `image_HWC` (uint8), `image_sha256`, `image_width`, `image_height`, `load_s`, `stage`, `error_type`, `error`.
    """
    work, problem = row, row["problem"]
    row = {name: value for name, value in row.items() if name not in (*PLACE_FIELDS, "problem")}
    row |= {"image_HWC": NO_IMAGE, "image_sha256": "", "image_width": 0, "image_height": 0, "load_s": 0.0, **WELL}
    if problem:
        return {**row, "stage": "manifest", "error_type": "ManifestError", "error": problem}

    def load(row: Row) -> Row:
        started = time.perf_counter()
        return {**row, **loader.load(work), "load_s": time.perf_counter() - started}

    return attempts.attempt(row, "load", load, answer)


def load_images(
    batch: Mapping[str, Any],
    *,
    storage: Storage,
    settings: ImageSettings,
    attempts: Attempts,
    load: Callable[..., Row] = load_image,
) -> Iterator[dict[str, Any]]:
    """`load(row, ...)` for each row of the groups that `feed` gives, packed and given out one by one.

    Where a row ends the process, Ray runs the group again: what was given out is taken as given, the rows come in the
    same order, and the ledger counts each row's tries for itself.
    """
    attempts.end_with_node()
    loader = Loader(storage, settings)
    lines = itertools.chain.from_iterable(str(text).split("\n") for text in batch["rows"])
    try:
        while rows := [json.loads(line) for line in itertools.islice(lines, IMAGES_PER_TASK)]:
            answers = attempts.begin_together([row["clip_id"] for row in rows if not row["problem"]], "load")
            for row in rows:
                yield pack(load(row, loader=loader, attempts=attempts, answer=answers.get(row["clip_id"])))
    finally:
        loader.close()
        attempts.ledger.flush()  # a task's ledger ends with it
