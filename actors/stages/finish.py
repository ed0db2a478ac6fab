"""Interpolate, encode and upload one clip. Axes: F frames, H height, W width, C channels."""

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from actors import __version__, scratch, video
from actors.clip_rates import clip_rates
from actors.contracts import Generated, Made, Pixels, Stage, Value
from actors.errors import VideoError
from actors.file_tag import file_tag
from actors.generators import GENERATORS
from actors.marks.credentials import Credentials
from actors.marks.source_types import MADE_BY_AI
from actors.node_cache import cache_folder
from actors.retries import retried
from actors.rife.times import output_times
from actors.settings import ImageSettings, InterpolationSettings, VideoSettings
from actors.storage import Storage

if TYPE_CHECKING:
    from actors.marks.signing import Signer
    from actors.rife.interpolate import Interpolator


class Finish(Stage[Generated, Made]):
    """Interpolate, encode and upload in one stage, so that interpolated frames never enter Ray's object store."""

    name = "finish"
    columns = pa.schema(
        [
            pa.field("file_name", pa.string()),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("num_frames", pa.int32()),
            pa.field("generated_frames", pa.int32()),
            pa.field("interpolation_factor", pa.float64()),
            pa.field("interpolation_model", pa.string()),
            pa.field("video_fps", pa.float64()),
            pa.field("duration_s", pa.float64()),
            pa.field("codec", pa.string()),
            pa.field("bytes", pa.int64()),
            pa.field("sha256", pa.string()),
            pa.field("interpolate_s", pa.float64()),
            pa.field("encode_s", pa.float64()),
            pa.field("upload_s", pa.float64()),
            pa.field("stillreel_version", pa.string()),
        ]
    )

    def __init__(
        self,
        interpolation: InterpolationSettings,
        encoding: VideoSettings,
        image: ImageSettings,
        place: Callable[[int, str], str],
        storage: Storage,
        cache_dir: str | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """`place` gives the URI of a clip's file, from the number of its part and the file's name.

        `cache_dir`: where the node keeps compiled networks (`actors.node_cache`).
        `credentials`: what each file is signed with; None: not at all.

        Raises CheckpointError, ConfigError or StorageError where the network cannot be loaded, and ConfigError where
        this machine cannot sign.
        """
        self._interpolation = interpolation
        self._encoding = encoding
        self._place = place
        self._storage = storage
        self._signer = _signer(credentials)
        self._interpolator = self._load_interpolator(image, cache_dir)

    def __call__(self, clip: Generated) -> Made:
        """Raises VideoError, for rates that do not fit, too; StorageError and GpuMemoryError."""
        num_generated, height, width, _ = clip.frames_FHWC.shape
        fps = clip.row.parameters["fps"]
        assert isinstance(fps, int), fps
        factor, rate = clip_rates(fps, self._interpolation, self._encoding)
        num_frames = len(output_times(num_generated, factor, loop=self._interpolation.loop))
        name = clip.row.clip_id + video.extension(self._encoding.codec)
        row = clip.row.with_columns(
            file_name=name,
            width=width,
            height=height,
            num_frames=num_frames,
            generated_frames=num_generated,
            interpolation_factor=float(factor),
            video_fps=float(rate),
            duration_s=float(num_frames / rate),
            interpolation_model=f"rife-{self._interpolator.name}" if self._interpolator else "",
            codec=self._encoding.codec,
            stillreel_version=__version__,
        )
        with scratch.folder() as folder:
            path = folder / name
            seconds = self._make_video(Generated(row, clip.frames_FHWC), factor, rate, path)
            made = time.perf_counter()
            self._storage.put_file(self._place(row.part, name), path)
            upload_s = time.perf_counter() - made
            row = row.with_columns(bytes=path.stat().st_size, sha256=_sha256(path))
        return Made(row.with_columns(**seconds, upload_s=upload_s))

    def _load_interpolator(self, image: ImageSettings, cache_dir: str | None) -> "Interpolator | None":
        if self._interpolation.weights is None:
            return None
        # torch takes seconds to import: neither the driver nor a worker that only encodes should wait for it.
        from actors import compiling
        from actors.device import choose_device
        from actors.rife import weights
        from actors.rife.interpolate import Interpolator

        device = choose_device(self._interpolation.device)
        compiling.keep_in(cache_folder(cache_dir) / "compiled")
        with scratch.folder() as folder:
            path = weights.fetch(self._interpolation.weights, self._storage, folder)
            interpolator = Interpolator.load(
                path, device=device, precision=self._interpolation.precision, compile=self._interpolation.compile
            )
        for width, height in image.sizes:
            interpolator.warm_up(width=width, height=height, pairs_per_batch=self._interpolation.pairs_per_batch)
        return interpolator

    def _make_video(self, clip: Generated, factor: Fraction, rate: Fraction, path: Path) -> dict[str, float]:
        """Interpolate and encode into `path`, again where the disk fails in a way that may pass; the seconds of each.

        Raises:
            VideoError: the disk goes on failing, or ffmpeg fails.
        """
        try:
            return retried(lambda: self._try_video(clip, factor, rate, path), self._storage.tries, of=OSError)
        except OSError as error:
            raise VideoError(
                f"the video could not be written into the temporary folder {tempfile.gettempdir()}: "
                f"{error.strerror or error}; see to that disk of the worker, or start Ray with TMPDIR set to a "
                "folder of another one"
            ) from error

    def _try_video(self, clip: Generated, factor: Fraction, rate: Fraction, path: Path) -> dict[str, float]:
        record = Made(clip.row).record
        source_type = _source_type(record)
        watch = _Stopwatch(self._interpolate(clip.frames_FHWC, factor))
        started = time.perf_counter()
        written = video.encode(
            watch,
            path,
            width=clip.frames_FHWC.shape[2],
            height=clip.frames_FHWC.shape[1],
            frame_rate=rate,
            settings=self._encoding,
            tag=file_tag(record),
            source_type=source_type if self._encoding.ai_mark else None,
        )
        if self._signer is not None:
            self._signer.sign(path, source_type)
        assert written == record["num_frames"], (written, record["num_frames"])
        elapsed_s = time.perf_counter() - started
        return {"interpolate_s": watch.elapsed_s, "encode_s": elapsed_s - watch.elapsed_s}

    def _interpolate(self, frames_FHWC: Pixels, factor: Fraction) -> Iterator[Pixels]:
        if self._interpolator is None:
            return iter(frames_FHWC)
        return self._interpolator.frames(
            frames_FHWC,
            factor=factor,
            loop=self._interpolation.loop,
            scene_cut_threshold=self._interpolation.scene_cut_threshold,
            pairs_per_batch=self._interpolation.pairs_per_batch,
        )


def _source_type(record: Mapping[str, Value]) -> str:
    """How the clip came about; of a generator that is no longer known, what holds for most."""
    generator = GENERATORS.get(str(record.get("generator")))
    return generator.source_type if generator is not None else MADE_BY_AI


def _signer(credentials: Credentials | None) -> "Signer | None":
    if credentials is None:
        return None
    from actors.marks.signing import Signer

    return Signer(credentials)


class _Stopwatch:
    """An iterator that keeps the seconds which its source took."""

    def __init__(self, source: Iterable[Pixels]) -> None:
        self._source = iter(source)
        self.elapsed_s = 0.0

    def __iter__(self) -> "_Stopwatch":
        return self

    def __next__(self) -> Pixels:
        started = time.perf_counter()
        try:
            return next(self._source)
        finally:
            self.elapsed_s += time.perf_counter() - started


def _sha256(path: Path) -> str:
    with closing(path.open("rb")) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
