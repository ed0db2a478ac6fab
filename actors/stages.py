"""The stages as Ray calls them: thin, with timing and failures in one place.

A row is a dict of columns. Whatever goes wrong with a row is written into its columns `stage`, `error_type` and `error`
(all "" while the row is well) and the row goes round the later stages; nothing here raises for a single row. Each
stage's docstring lists the columns that it takes and gives.

Axes: F frames, H height, W width, C channels.
"""

import hashlib
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from actors import __version__, images, rife, video
from actors.errors import GenerationError
from actors.records import PARAMETER_FIELDS, Failure, Outcome, Provenance, file_tag, part_name
from actors.settings import (
    GenerationSettings,
    ImageSettings,
    InterpolationSettings,
    ModelSettings,
    VideoSettings,
)
from actors.storage import Storage
from actors.svd.checkpoint import locate
from actors.svd.conditioning import ClipParameters
from actors.svd.model import load
from actors.svd.sampler import check_size, generate

Row = dict[str, Any]
Pixels = npt.NDArray[np.uint8]

_NO_IMAGE: Pixels = np.zeros((0, 0, 3), np.uint8)
_NO_FRAMES: Pixels = np.zeros((0, 0, 0, 3), np.uint8)
_WELL = {"stage": "", "error_type": "", "error": ""}
_PARAMETERS = [field.name for field in PARAMETER_FIELDS]


def _failed(row: Row, stage: str, error: Exception) -> Row:
    """The row marked as failed at `stage`."""
    return {**row, "stage": stage, "error_type": type(error).__name__, "error": str(error) or repr(error)}


def load_image(row: Row, *, storage: Storage, settings: ImageSettings) -> Row:
    """Fetch, decode, orient and fit one image.

    In: the columns of `WORK_SCHEMA`. Out: the same without `image_bytes` and `problem`, and
    `image_HWC` (uint8), `image_sha256`, `image_width`, `image_height`, `load_s`, `stage`, `error_type`, `error`.
    """
    started = time.perf_counter()
    data, problem = row.pop("image_bytes"), row.pop("problem")
    row |= {"image_HWC": _NO_IMAGE, "image_sha256": "", "image_width": 0, "image_height": 0, "load_s": 0.0, **_WELL}
    if problem:
        return {**row, "stage": "manifest", "error_type": "ManifestError", "error": problem}
    try:
        image = images.decode(
            storage.read_bytes(row["image_uri"]) if data is None else bytes(data),
            max_megapixels=settings.max_megapixels,
        )
        width, height = images.clip_size(image.width, image.height, settings)
        pixels_HWC = images.fit(
            image.pixels_HWC, width=width, height=height, mode=settings.fit, pad_color=settings.pad_color
        )
    except Exception as error:  # one bad image must not end the job
        return _failed(row, "load", error)
    facts = {"image_sha256": image.sha256, "image_width": image.width, "image_height": image.height}
    return {**row, **facts, "image_HWC": pixels_HWC, "load_s": time.perf_counter() - started}


class Generate:
    """SVD, resident. One instance per actor."""

    def __init__(
        self, model: ModelSettings, generation: GenerationSettings, image: ImageSettings, storage: Storage
    ) -> None:
        folder = locate(
            model.source,
            revision=model.revision,
            variant=model.variant,
            cache_dir=model.cache_dir,
            storage_options=storage.options,
        )
        device = _device(model.device)
        self._model = load(folder, variant=model.variant, precision=model.precision, device=device)
        check_size(self._model, width=image.width, height=image.height, num_frames=generation.num_frames)
        self._settings = generation
        self._decode_chunk_frames = model.decode_chunk_frames
        self._device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> Iterator[dict[str, Any]]:
        """Animate a batch of images; clips of one shape share a call.

        In: the columns that `load_image` gives. Out, one row at a time: the same without `image_HWC`, and
        `frames_FHWC` (uint8), `generate_s` (the clip's share of its call), `device`.
        """
        rows = _rows(batch)
        by_shape: dict[tuple[int, ...], list[Row]] = defaultdict(list)
        for row in rows:
            by_shape[row["image_HWC"].shape if not row["stage"] else ()].append(row)
        for shape, alike in by_shape.items():
            yield from map(_as_batch, self._animate(alike) if shape else map(self._passed_by, alike))

    def _animate(self, rows: list[Row]) -> list[Row]:
        try:
            return self._sample(rows)
        except Exception as error:  # one bad clip must not end the job, nor its neighbours in the batch
            if len(rows) > 1:
                return [made for row in rows for made in self._animate([row])]
            return [self._passed_by(_failed(rows[0], "generate", error))]

    def _sample(self, rows: list[Row]) -> list[Row]:
        started = time.perf_counter()
        clips = generate(
            self._model,
            np.stack([row["image_HWC"] for row in rows]),
            [ClipParameters(**_parameters(row)) for row in rows],
            num_frames=self._settings.num_frames,
            num_inference_steps=self._settings.num_inference_steps,
            decode_chunk_frames=self._decode_chunk_frames,
        )
        share_s = (time.perf_counter() - started) / len(rows)
        return [
            self._passed_by(row) | {"generate_s": share_s, "frames_FHWC": frames_FHWC}
            if finite
            else self._passed_by(
                _failed(row, "generate", GenerationError("the model made frames that are not numbers"))
            )
            for row, frames_FHWC, finite in zip(rows, clips.frames_BFHWC, clips.finite)
        ]

    def _passed_by(self, row: Row) -> Row:
        """The row as it leaves this stage without frames."""
        kept = {name: value for name, value in row.items() if name != "image_HWC"}
        return kept | {"frames_FHWC": _NO_FRAMES, "generate_s": 0.0, "device": self._device_name}


class Finish:
    """Interpolate, encode and upload in one stage, so that interpolated frames never enter Ray's object store."""

    def __init__(
        self,
        interpolation: InterpolationSettings,
        encoding: VideoSettings,
        provenance: Provenance,
        output: str,
        storage: Storage,
    ) -> None:
        self._interpolation = interpolation
        self._encoding = encoding
        self._provenance = provenance
        self._output = output
        self._storage = storage
        self._interpolator: rife.Interpolator | None = None
        if interpolation.weights is not None:
            weights = rife.fetch(interpolation.weights, storage)
            self._interpolator = rife.Interpolator.load(
                weights, device=_device(interpolation.device), precision=interpolation.precision
            )

    def __call__(self, row: Row) -> Row:
        """Turn one clip's frames into a stored video.

        In: the columns that `Generate` gives. Out: `outcome`, JSON of an `actors.records.Outcome`.
        """
        clip = failure = None
        if row["stage"]:
            failure = Failure(row["stage"], row["error_type"], row["error"])
        else:
            try:
                clip = self._finish(row)
            except Exception as error:  # one bad clip must not end the job
                failure = Failure("finish", type(error).__name__, str(error) or repr(error))
        return Outcome(
            clip_id=row["clip_id"],
            part=int(row["part"]),
            image_uri=row["image_uri"],
            attempts=int(row["attempts"]) + 1,
            finished_at=datetime.now(UTC).isoformat(),
            clip=clip,
            failure=failure,
        ).to_row()

    def _finish(self, row: Row) -> dict[str, Any]:
        frames_FHWC = row["frames_FHWC"]
        num_generated, height, width, _ = frames_FHWC.shape
        factor, rate = self._rates(int(row["fps"]))
        num_frames = len(rife.output_times(num_generated, factor, loop=self._interpolation.loop))
        clip = self._describe(row) | {
            "width": width,
            "height": height,
            "num_frames": num_frames,
            "generated_frames": num_generated,
            "interpolation_factor": float(factor),
            "video_fps": float(rate),
            "duration_s": float(num_frames / rate),
        }
        with tempfile.TemporaryDirectory(prefix="stillreel-") as scratch:
            path = Path(scratch) / clip["file_name"]
            watch = _Stopwatch(self._interpolate(frames_FHWC, factor))
            started = time.perf_counter()
            written = video.encode(
                watch, path, width=width, height=height, frame_rate=rate, settings=self._encoding, tag=file_tag(clip)
            )
            assert written == num_frames, (written, num_frames)
            encoded = time.perf_counter()
            folder = self._storage.join(self._output, "data", part_name(int(row["part"])))
            self._storage.put_file(self._storage.join(folder, clip["file_name"]), path)
            return clip | {
                "bytes": path.stat().st_size,
                "sha256": _sha256(path),
                "interpolate_s": watch.elapsed_s,
                "encode_s": encoded - started - watch.elapsed_s,
                "upload_s": time.perf_counter() - encoded,
            }

    def _describe(self, row: Row) -> dict[str, Any]:
        """The columns of the record that are known before the video is made."""
        return {
            "clip_id": row["clip_id"],
            "file_name": row["clip_id"] + video.extension(self._encoding.codec),
            "image_uri": row["image_uri"],
            "image_sha256": row["image_sha256"],
            "image_width": int(row["image_width"]),
            "image_height": int(row["image_height"]),
            "fit": self._provenance.fit,
            "interpolation_model": f"rife-{self._interpolator.name}" if self._interpolator else "",
            "codec": self._encoding.codec,
            **_parameters(row),
            "num_inference_steps": self._provenance.num_inference_steps,
            "model": self._provenance.model,
            "model_revision": self._provenance.model_revision,
            "precision": self._provenance.precision,
            "load_s": float(row["load_s"]),
            "generate_s": float(row["generate_s"]),
            "device": row["device"],
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


def _device(name: str) -> torch.device:
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def _rows(batch: dict[str, npt.NDArray[Any]]) -> list[Row]:
    size = len(next(iter(batch.values())))
    return [{name: column[index] for name, column in batch.items()} for index in range(size)]


def _as_batch(row: Row) -> dict[str, Any]:
    """A batch of one row: clips of different shapes never meet in one array."""
    return {name: value[np.newaxis] if isinstance(value, np.ndarray) else [value] for name, value in row.items()}


def _parameters(row: Row) -> dict[str, Any]:
    """The clip's parameters as Python numbers: Ray hands them over as NumPy scalars in batches, not so in rows."""
    return {name: np.asarray(row[name]).item() for name in _PARAMETERS}


def _sha256(path: Path) -> str:
    with closing(path.open("rb")) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
