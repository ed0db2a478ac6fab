"""Load images. Axes: H height, W width, C channels."""

import pyarrow as pa

from actors import images
from actors.contracts import Loaded, Planned, Stage
from actors.settings import ImageSettings
from actors.storage import Storage


class Load(Stage[Planned, Loaded]):
    """Fetch, decode, orient and fit one image."""

    name = "load"
    columns = pa.schema(
        [
            pa.field("image_sha256", pa.string()),  # of the file's bytes
            pa.field("image_width", pa.int32()),  # of the image, upright, in pixels
            pa.field("image_height", pa.int32()),
            pa.field("fit", pa.string()),  # how it became the picture: `image.fit`
        ]
    )

    def __init__(self, image: ImageSettings, storage: Storage) -> None:
        self._settings, self._storage = image, storage

    def __call__(self, work: Planned) -> Loaded:
        """Raises StorageError or ImageError where there is no usable image."""
        settings, data = self._settings, work.image_bytes
        if data is None:
            data = self._storage.read_bytes(work.row.image_uri, max_bytes=settings.max_bytes)
        image = images.decode(data, max_megapixels=settings.max_megapixels, max_bytes=settings.max_bytes)
        width, height = images.clip_size(image.width, image.height, settings)
        image_HWC = images.fit(
            image.pixels_HWC, width=width, height=height, mode=settings.fit, pad_color=settings.pad_color
        )
        row = work.row.with_columns(
            image_sha256=image.sha256, image_width=image.width, image_height=image.height, fit=settings.fit
        )
        return Loaded(row, image_HWC)
