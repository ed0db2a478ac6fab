"""Load images. Axes: H height, W width, C channels."""

from dataclasses import dataclass, replace

import pyarrow as pa

from actors import images, logs
from actors.contracts import Loaded, Pixels, Place, Planned, Stage, Value
from actors.embedded import EmbeddedImages
from actors.errors import ImageError
from actors.secrets import public_uri
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
            pa.field("image_license", pa.string()),  # as the manifest has it
            pa.field("fit", pa.string()),  # how it became the picture: `image.fit`
        ]
    )

    def __init__(self, image: ImageSettings, storage: Storage) -> None:
        self._settings, self._storage = image, storage
        self._embedded = EmbeddedImages(storage, image.max_bytes)
        self._last: tuple[Place | str, _Picture] | None = None

    def __call__(self, work: Planned) -> Loaded:
        """Raises StorageError or ImageError where there is no usable image. The last one again costs nothing."""
        source = work.place or work.fallback or work.row.image_uri
        if self._last is None or self._last[0] != source:
            self._last = None
            self._last = source, self._picture(work)
        picture = self._last[1]
        row = replace(work.row, image_uri=picture.uri)
        row = row.with_columns(**picture.columns, image_license=work.image_license)
        return Loaded(row, picture.image_HWC)

    def close(self) -> None:
        """Let go of files that are open."""
        self._embedded.close()

    def _picture(self, work: Planned) -> "_Picture":
        settings = self._settings
        uri, data = self._fetch(work)
        image = images.decode(data, max_megapixels=settings.max_megapixels, max_bytes=settings.max_bytes)
        if image.note:
            logs.logger.warning("%s: %s", uri, image.note)
        width, height = images.clip_size(image.width, image.height, settings)
        image_HWC = images.fit(
            image.pixels_HWC, width=width, height=height, mode=settings.fit, pad_color=settings.pad_color
        )
        facts: dict[str, Value] = {"image_sha256": image.sha256, "image_width": image.width}
        return _Picture(uri, image_HWC, facts | {"image_height": image.height, "fit": settings.fit})

    def _fetch(self, work: Planned) -> tuple[str, bytes]:
        """The image's bytes, and the URI that it is to be known by."""
        uri = work.row.image_uri
        if work.place is not None:
            if data := self._embedded.read(work.place):
                return uri, data
            if work.fallback is None:
                raise ImageError(f"there is no image in {work.place}, and no URI that may be fetched")
            uri = public_uri(work.fallback)
        whole = work.fallback or uri
        return uri, self._storage.read_bytes(whole, max_bytes=self._settings.max_bytes)


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """An image that is ready, and what is known of it."""

    uri: str
    image_HWC: Pixels
    columns: dict[str, Value]
