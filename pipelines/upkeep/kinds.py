"""What can be wrong with a dataset: each kind with its name in `--json`, what is said of it, and what mends it."""

from dataclasses import dataclass
from typing import Literal

By = Literal["repair", "you", "nothing"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One way in which a dataset can be wrong.

    Attributes:
        name: what programs know it by.
        said: what people are told; their number comes after it.
        by: what mends it: `--repair`, the person who reads, or nothing, where nothing is wrong.
        how: what that does, or is to do.
        by_deep: whether only who reads all videos sees it: so does a repair that is to mend it.
    """

    name: str
    said: str
    by: By
    how: str
    by_deep: bool = False

    @property
    def options(self) -> str:
        """With which `verify` mends it; "" where it does not."""
        return "" if self.by != "repair" else "--deep --repair" if self.by_deep else "--repair"


_UNLISTS = "takes the rows out; the next run makes these clips again"
_MOVES = "moves them into _orphans/"

# --- Clips --------------------------------------------------------------------------------------------------------
VIDEO_GONE = Kind("video_gone", "listed videos that are not there", "repair", _UNLISTS)
OTHER_SIZE = Kind(
    "other_size", "videos of another size than recorded", "repair", f"moves them into _orphans/ and {_UNLISTS}"
)
OTHER_CONTENT = Kind(
    "other_content",
    "videos of another sha256 than recorded",
    "repair",
    f"moves them into _orphans/ and {_UNLISTS}",
    by_deep=True,
)
NOWHERE = Kind(
    "link_to_nothing", "links that lead nowhere", "you", "mount the disk that they lead to, or remove the links"
)
WRONG_NAME = Kind(
    "wrong_file_name",
    "rows whose file_name is not that of their clip",
    "repair",
    "corrects the name where the video is there, and takes the row out where it is not",
)
NO_CLIP_ID = Kind(
    "no_clip_id", "rows without a clip_id, or with one that is none", "repair", "takes them out; videos are listed anew"
)
TWICE = Kind(
    "listed_twice",
    "clips that are listed twice",
    "repair",
    "keeps the row whose video is good; another file of the clip goes into _orphans/",
)
MADE_AND_FAILED = Kind(
    "made_and_failed", "clips that are both made and failed", "repair", "takes them out of the failures"
)
FAILED_TWICE = Kind(
    "failed_twice", "clips that have two rows among the failures", "repair", "keeps that of the most attempts"
)
HALF = Kind(
    "half_a_copy",
    "listed videos that are not there, more than half of the dataset's, as in a copy that is not finished",
    "you",
    "finish the copy, or mount what is missing; where they are gone for good, remove the metadata.parquet that "
    "list them, or run the job, which makes its clips again",
)

# --- Videos that no row lists -------------------------------------------------------------------------------------
UNLISTED = Kind("unlisted", "finished videos that no row lists", "repair", "lists them, from the record in each")
MISPLACED = Kind(
    "misplaced", "finished videos under another name or in another folder", "repair", "moves them to their place"
)
COPIES = Kind("copies", "videos that lie elsewhere as well, where they are listed", "repair", _MOVES)
SPOILT = Kind("spoilt", "videos that are damaged, or carry no record of this dataset's clips", "repair", _MOVES)
UNKNOWN_VIDEO = Kind(
    "not_looked_into",
    "further videos that no row lists, which only --deep and --repair look into",
    "repair",
    "lists those that are finished; the others go into _orphans/",
)

# --- Files and folders --------------------------------------------------------------------------------------------
FOREIGN = Kind("foreign", "files and folders that are none of a dataset", "repair", _MOVES)
STRAY_PART = Kind(
    "stray_part",
    "folders with records whose name is no part's",
    "repair",
    "makes a part of one with clips that are nowhere else, and moves the others into _orphans/",
)
PART_TWICE = Kind("part_twice", "links to folders of the dataset itself", "repair", "moves the link into _orphans/")
UPLOADS = Kind("left_uploads", "halves of uploads that were cut short", "repair", _MOVES)
HIDDEN = Kind("hidden", "hidden files and folders, which all readers pass over", "nothing", "")

# --- Records ------------------------------------------------------------------------------------------------------
NO_METADATA = Kind(
    "no_metadata", "parts with videos and without metadata.parquet", "repair", "lists the videos, from their records"
)
DAMAGED_METADATA = Kind(
    "damaged_metadata",
    "records of parts (metadata.parquet) that cannot be read",
    "repair",
    "moves them into _orphans/ and lists the videos, from their records",
)
MISNAMED_METADATA = Kind(
    "misnamed_metadata",
    "records under a name that is nearly metadata.parquet",
    "repair",
    "gives them that name where there is none, and moves them into _orphans/ else",
)
DAMAGED_FAILURES = Kind(
    "damaged_failures",
    "files of failures that cannot be read",
    "repair",
    "moves them into _orphans/; the next run tries these clips again",
)
UNREADABLE = Kind("unreadable", "files that the store does not give out", "you", "see to the permissions, or the disk")
OLDER_SCHEMA = Kind("older_schema", "parts whose records lack columns", "repair", "adds the columns, with nulls")
OTHER_TYPES = Kind(
    "other_types",
    "parts whose columns have another order or other types of the same values",
    "repair",
    "rewrites them as the others are",
)
FOREIGN_SCHEMA = Kind(
    "foreign_schema",
    "parts whose records have columns of types that do not fit",
    "you",
    "restore their metadata.parquet; or remove it, and --repair lists the videos from their own records",
)
OTHER_GENERATOR = Kind(
    "other_generator",
    "parts that another generator made",
    "you",
    "a dataset is of one generator: move these parts into a dataset of their own",
)
NEWER = Kind(
    "newer_version", "parts that a newer version of stillreel wrote", "you", "use that version for this dataset"
)
NO_ROWS = Kind("no_rows", "parts without rows", "nothing", "compact removes them")

# --- Around them --------------------------------------------------------------------------------------------------
LEFT_WORK = Kind(
    "left_work",
    "work files of interrupted runs",
    "repair",
    "lists the clips that these had finished; the next run makes the others",
)
STALE_LEASE = Kind("stale_lease", "leases whose run is gone", "repair", "takes over the lease and returns it")
OLD_LEASES = Kind("old_leases", "former leases that were not cleared away", "repair", "clears them away")
DAMAGED_LEASE = Kind(
    "damaged_lease",
    "leases that cannot be read",
    "you",
    "where no run writes to this dataset, remove them; or start the next run with --break-lease",
)
SILENT = Kind(
    "silent_run",
    "runs that keep their lease and give no sign of life",
    "you",
    "look at these runs: see `stillreel status`",
)
NO_CARD = Kind("no_card", "missing README.md", "repair", "writes it")

KINDS = tuple(value for value in globals().values() if isinstance(value, Kind))
