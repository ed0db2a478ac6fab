"""Where everything in a dataset is, and how it is called. Nobody else puts such paths together.

<root>/
  README.md                              the card
  data/part-00000/metadata.parquet       one record per clip
  data/part-00000/<clip_id>.mp4          (.mkv) the clips
  failures/part-00000.parquet            one record per row that failed
  _lease/00000001.json                   who is writing the whole of it
  _lease/shard-003-of-016/00000001.json  who is writing the third of 16 shards
  _index/clips-00000.parquet, failures-00000.parquet     what the parts hold: a cache of plans, as is all below _index
  _index/sources/<token>.parquet         what the manifest's files ask for
  _orphans/<run_id>/...                  what `verify --repair` has moved away, each at its former place
  _runs/<run_id>/config.yaml, heartbeat.json, summary.json, ray.log, warnings.log
  _runs/<run_id>/profile/kernels.txt, trace-1.json.gz    with run.profile
  _runs/<run_id>/rows/work-00000.parquet  until the run is done

A `run_id` is 20260101T000000Z-abcdef, and of a shard's run 20260101T000000Z-abcdef-shard-003-of-016.
"""

import re
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime

from actors.storage import Storage
from pipelines.dataset.shard import WHOLE, Shard

# Clips in one part: its metadata file is rewritten as a whole at each commit, and a folder of so many files lists fast.
PART_CLIPS = 512

_METADATA = "metadata.parquet"
_PARQUET = ".parquet"
_PART = re.compile(r"part-(\d{5,})")
_GENERATION = re.compile(r"(?:.*/)?(\d{8})\.json")
_OF_SHARD = re.compile(r"(?:.*[/-])?shard-(\d{3})-of-(\d{3})")
_WORK_FILE = re.compile(r"(.*)/rows/work-\d+\.parquet")

_INDEX_FILE = re.compile(r"([a-z]+)-(\d{5,})\.parquet")

# What an index has a file of, for some parts each.
INDEX_KINDS = ("clips", "failures")

_PLACES = ("data", "failures", "_index", "_runs", "_lease", "_orphans")

_join = Storage.join


@dataclass(frozen=True, slots=True)
class RunFolder:
    """What a run leaves in the dataset beside clips."""

    uri: str

    @property
    def shard(self) -> Shard:
        """What it was to make: its name says so, whatever else is gone."""
        return _shard_in(self.uri) or WHOLE

    @property
    def config(self) -> str:
        """The resolved configuration; written before the work files, with which the next run may read it."""
        return _join(self.uri, "config.yaml")

    @property
    def summary(self) -> str:
        """What the run did."""
        return _join(self.uri, "summary.json")

    @property
    def heartbeat(self) -> str:
        """How the run is, written every few seconds."""
        return _join(self.uri, "heartbeat.json")

    def log(self, name: str) -> str:
        """A log, such as `ray.log`."""
        return _join(self.uri, name)

    def profile(self, name: str) -> str:
        """A trace or a table of `run.profile`."""
        return _join(self.uri, "profile", name)

    @property
    def work(self) -> str:
        """The folder of the work files."""
        return _join(self.uri, "rows")

    def work_file(self, number: int) -> str:
        """One of them."""
        return _join(self.work, f"work-{number:05d}{_PARQUET}")


@dataclass(frozen=True, slots=True)
class Layout:
    """The places in the dataset at `root`, a folder or a URI."""

    root: str

    @property
    def card(self) -> str:
        """What readers see first."""
        return _join(self.root, "README.md")

    @property
    def data(self) -> str:
        """The folder of the clips and their records."""
        return _join(self.root, "data")

    @property
    def failures(self) -> str:
        """The folder of the records of rows that failed."""
        return _join(self.root, "failures")

    @property
    def runs(self) -> str:
        """The folder of the runs' own folders."""
        return _join(self.root, "_runs")

    @property
    def index(self) -> str:
        """The folder of what plans keep of the parts, and may lose."""
        return _join(self.root, "_index")

    @property
    def known_files(self) -> str:
        """The folder of what plans keep of the manifest's files, and may lose."""
        return _join(self.index, "sources")

    @property
    def lease(self) -> str:
        """The folder of the lease."""
        return _join(self.root, "_lease")

    def part(self, part: int) -> str:
        """The folder of a part."""
        return _join(self.data, _part_name(part))

    def video(self, part: int, file_name: str) -> str:
        """The file of a clip."""
        return _join(self.part(part), file_name)

    def metadata(self, part: int) -> str:
        """The records of a part's clips."""
        return metadata_in(self.part(part))

    def failures_of(self, part: int) -> str:
        """The records of a part's rows that failed."""
        return _join(self.failures, _part_name(part) + _PARQUET)

    def index_file(self, kind: str, number: int) -> str:
        """What is kept of some parts: their clips or their failures."""
        return _join(self.index, f"{kind}-{number:05d}{_PARQUET}")

    def known_file(self, token: str) -> str:
        """What one run has found in the manifest's files."""
        return _join(self.known_files, token + _PARQUET)

    def lease_of(self, shard: Shard) -> str:
        """The folder of a share's lease."""
        return self.lease if shard.is_whole else _join(self.lease, _shard_name(shard))

    def lease_generation(self, number: int, shard: Shard = WHOLE) -> str:
        """The file of that number of a share's lease."""
        return _join(self.lease_of(shard), f"{number:08d}.json")

    def share_leased(self, uri: str) -> Shard | None:
        """Whose lease a file in the leases' folder is part of; None for another file."""
        folder = Storage.parent(uri)
        shard = WHOLE if folder == self.lease else _shard_in(folder)
        is_ours = shard is not None and self.lease_of(shard) == folder and lease_number(uri) is not None
        return shard if is_ours else None

    def orphan(self, run_id: str, uri: str) -> str:
        """Where the repair of that name puts a file of the dataset that belongs to nobody."""
        return _join(self.root, "_orphans", run_id, uri[len(self.root.rstrip("/")) + 1 :])

    def dropped_rows(self, run_id: str, records: str) -> str:
        """Where the repair of that name keeps rows that it takes out of a file of records."""
        return self.orphan(run_id, records.removesuffix(_PARQUET) + f"-dropped-{secrets.token_hex(3)}{_PARQUET}")

    def run(self, run_id: str) -> RunFolder:
        """The folder of a run."""
        return RunFolder(_join(self.runs, run_id))


def new_run_id(shard: Shard = WHOLE) -> str:
    """A name for a run of a share, or for whatever else holds its lease: they sort by time."""
    return run_name(f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}", shard)


def root_of_place(folder: str) -> str | None:
    """What would be the dataset's root, where a folder is called as one of the folders in it; else None."""
    root, _, name = folder.rpartition("/")
    return (root or "/") if name in _PLACES else None


def metadata_in(part_folder: str) -> str:
    """The records in a part's folder."""
    return _join(part_folder, _METADATA)


def part_of(uri: str) -> int | None:
    """The number of the part of a file of records, or of a part's folder; None for a name that is not ours."""
    stem = uri.removesuffix(f"/{_METADATA}").rpartition("/")[2].removesuffix(_PARQUET)
    match = _PART.fullmatch(stem)
    return int(match[1]) if match and stem == _part_name(int(match[1])) else None


def index_file_number(kind: str, uri: str) -> int | None:
    """The number of an index's file of this kind; None for another file."""
    match = _INDEX_FILE.fullmatch(uri.rpartition("/")[2])
    return int(match[2]) if match and match[1] == kind else None


def is_metadata(name: str) -> bool:
    """Whether a file's name is that of a part's records."""
    return name == _METADATA


def is_nearly_metadata(name: str) -> bool:
    """Whether it would be, but for capitals or letters that look the same."""
    return name != _METADATA and unicodedata.normalize("NFKC", name).casefold() == _METADATA


def lease_number(uri: str) -> int | None:
    """The number of a lease's file; None for another file."""
    match = _GENERATION.fullmatch(uri)
    return int(match[1]) if match else None


def run_of_work_file(uri: str) -> RunFolder | None:
    """The run that wrote a work file; None for another file."""
    match = _WORK_FILE.fullmatch(uri)
    return RunFolder(match[1]) if match else None


def upkeep_id(what: str) -> str:
    """A name for a `repair` or a `compact` while it holds the lease."""
    return f"{new_run_id()}-{what}"


def is_upkeep(run_id: str) -> bool:
    """Whether that name is of one of these, and of no run."""
    return run_id.endswith(("-repair", "-compact"))


def run_name(stamp: str, shard: Shard) -> str:
    """The run_id of a run of a share, from what no other run has."""
    return stamp if shard.is_whole else f"{stamp}-{_shard_name(shard)}"


def _shard_name(shard: Shard) -> str:
    return f"shard-{shard.index:03d}-of-{shard.count:03d}"


def _shard_in(uri: str) -> Shard | None:
    """The share that a folder's name ends in; None where it names none."""
    match = _OF_SHARD.fullmatch(uri)
    index, count = map(int, match.groups()) if match else (0, 0)
    return Shard(index, count) if 1 <= index <= count else None


def _part_name(part: int) -> str:
    return f"part-{part:05d}"
