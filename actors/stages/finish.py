"""Interpolate, encode and upload one clip. Axes: F frames, H height, W width, C channels."""

import hashlib
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from actors import __version__, scratch, video
from actors.errors import GenerationError, VideoError
from actors.records import Failure, Outcome, Provenance, file_tag, part_name
from actors.retries import retried
from actors.rife.times import output_times
from actors.settings import ImageSettings, InterpolationSettings, VideoSettings
from actors.stages.attempts import Attempts
from actors.stages.row import NO_OUTCOME, UNSTARTED, Pixels, Row, parameters, unpack
from actors.storage import Storage
from actors.svd.checkpoint import cache_folder

if TYPE_CHECKING:
    from actors.rife.interpolate import Interpolator


class Finish:
    """Interpolate, encode and upload in one stage, so that interpolated frames never enter Ray's object store."""

    def __init__(
        self,
        interpolation: InterpolationSettings,
        encoding: VideoSettings,
        image: ImageSettings,
        provenance: Provenance,
        output: str,
        storage: Storage,
        attempts: Attempts,
    ) -> None:
        self._interpolation = interpolation
        self._encoding = encoding
        self._provenance = provenance
        self._output = output
        self._storage = storage
        self._attempts = attempts
        with attempts.start("finish"):
            self._interpolator = self._load_interpolator(image)

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, list[str]]:
        """Turn clips' frames into stored videos.

        In: rows as `Generate` gives them, packed. Out: `outcome`, JSON of an `actors.records.Outcome`; "" for a row
        that the run did not begin with.
        """
        return {"outcome": [self._outcome(row) for row in unpack(batch)]}

    def _outcome(self, row: Row) -> str:
        if row["stage"] == UNSTARTED:
            return NO_OUTCOME
        row = self._attempts.attempt({**row, "clip": None}, "finish", lambda row: {**row, "clip": self._finish(row)})
        return Outcome(
            clip_id=row["clip_id"],
            part=row["part"],
            image_uri=row["image_uri"],
            attempts=row["attempts"] + 1,
            finished_at=datetime.now(UTC).isoformat(),
            clip=row["clip"],
            failure=Failure(row["stage"], row["error_type"], row["error"]) if row["stage"] else None,
        ).to_json()

    def _load_interpolator(self, image: ImageSettings) -> "Interpolator | None":
        if self._interpolation.weights is None:
            return None
        # torch takes seconds to import: neither the driver nor a worker that only encodes should wait for it.
        from actors import compiling
        from actors.rife import weights
        from actors.rife.interpolate import Interpolator
        from actors.stages.device import choose_device

        device = choose_device(self._interpolation.device)
        compiling.keep_in(cache_folder(None) / "compiled")
        with scratch.folder() as folder:
            path = weights.fetch(self._interpolation.weights, self._storage, folder)
            interpolator = Interpolator.load(
                path, device=device, precision=self._interpolation.precision, compile=self._interpolation.compile
            )
        for width, height in image.sizes:
            interpolator.warm_up(width=width, height=height, pairs_per_batch=self._interpolation.pairs_per_batch)
        return interpolator

    def _finish(self, row: Row) -> dict[str, Any]:
        frames_FHWC = row["frames_FHWC"]
        num_generated, height, width, _ = frames_FHWC.shape
        factor, rate = self._rates(row["fps"])
        num_frames = len(output_times(num_generated, factor, loop=self._interpolation.loop))
        clip = self._describe(row) | {
            "width": width,
            "height": height,
            "num_frames": num_frames,
            "generated_frames": num_generated,
            "interpolation_factor": float(factor),
            "video_fps": float(rate),
            "duration_s": float(num_frames / rate),
        }
        with scratch.folder() as folder:
            path = folder / clip["file_name"]
            seconds = self._make_video(frames_FHWC, factor, rate, path, clip)
            made = time.perf_counter()
            part = part_name(row["part"])
            self._storage.put_file(self._storage.join(self._output, "data", part, clip["file_name"]), path)
            return clip | {
                "bytes": path.stat().st_size,
                "sha256": _sha256(path),
                **seconds,
                "upload_s": time.perf_counter() - made,
            }

    def _make_video(
        self, frames_FHWC: Pixels, factor: Fraction, rate: Fraction, path: Path, clip: dict[str, Any]
    ) -> dict[str, float]:
        """Interpolate and encode into `path`, again where the disk fails in a way that may pass; the seconds of each.

        Raises:
            VideoError: the disk goes on failing, or ffmpeg fails.
        """
        try:
            return retried(
                lambda: self._try_video(frames_FHWC, factor, rate, path, clip), self._storage.attempts, of=OSError
            )
        except OSError as error:
            raise VideoError(
                f"the video could not be written into the temporary folder {tempfile.gettempdir()}: "
                f"{error.strerror or error}; see to that disk of the worker, or start Ray with TMPDIR set to a "
                "folder of another one"
            ) from error

    def _try_video(
        self, frames_FHWC: Pixels, factor: Fraction, rate: Fraction, path: Path, clip: dict[str, Any]
    ) -> dict[str, float]:
        watch = _Stopwatch(self._interpolate(frames_FHWC, factor))
        started = time.perf_counter()
        written = video.encode(
            watch,
            path,
            width=clip["width"],
            height=clip["height"],
            frame_rate=rate,
            settings=self._encoding,
            tag=file_tag(clip),
        )
        assert written == clip["num_frames"], (written, clip["num_frames"])
        elapsed_s = time.perf_counter() - started
        return {"interpolate_s": watch.elapsed_s, "encode_s": elapsed_s - watch.elapsed_s}

    def _describe(self, row: Row) -> dict[str, Any]:
        """The columns of the record that are known before the video is made."""
        return {
            "clip_id": row["clip_id"],
            "file_name": row["clip_id"] + video.extension(self._encoding.codec),
            "image_uri": row["image_uri"],
            "image_sha256": row["image_sha256"],
            "image_width": row["image_width"],
            "image_height": row["image_height"],
            "fit": self._provenance.fit,
            "interpolation_model": f"rife-{self._interpolator.name}" if self._interpolator else "",
            "codec": self._encoding.codec,
            **parameters(row),
            "num_inference_steps": self._provenance.num_inference_steps,
            "model": self._provenance.model,
            "model_revision": self._provenance.model_revision,
            "precision": self._provenance.precision,
            "tier": self._provenance.tier,
            "load_s": row["load_s"],
            "generate_s": row["generate_s"],
            "device": row["device"],
            "memory_mode": row["memory_mode"],
            "stillreel_version": __version__,
        }

    def _rates(self, fps: int) -> tuple[Fraction, Fraction]:
        """The interpolation factor and the file's frame rate for a clip conditioned on `fps`."""
        target = self._interpolation.target_fps
        if target is not None:
            if target < fps:
                raise GenerationError(f"interpolation.target_fps {target} is below the clip's own fps {fps}: raise it")
            return target / fps, target
        assert self._interpolation.factor is not None
        factor = self._interpolation.factor
        return factor, self._encoding.fps or fps * factor

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
