"""A tar of images as a manifest, such as a shard of WebDataset: a row for each sample that has an image.

Columns: `__key__`; `image`, the picture that is animated; and each member that is text, by what its name ends in:
`txt`, `cls`, `json` as text. Which these are, the first samples of the first shard say. The images stay where they are.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BufferedReader
from itertools import islice
from typing import Any, cast

import pyarrow as pa

from actors.contracts import TAR_GROUP
from actors.embedded_tar import BLOCK_BYTES
from actors.errors import ManifestError
from actors.storage import Storage
from pipelines.manifest.column_names import is_side_name
from pipelines.manifest.files import EXTENSIONS, Batch
from pipelines.manifest.opening import batched, check_names, refuse_empty
from pipelines.manifest.parquet_images import Embedded
from pipelines.manifest.tar_members import Member, Sample, samples

KEY = "__key__"
IMAGE = "image"

# Looked at for what a shard has.
_FIRST_SAMPLES = 100
# Captions and what describes an image. More is no text that belongs in a table.
_TEXT_BYTES = 2**20
# An image's place is a block's number, an int32.
_MOST_BYTES = BLOCK_BYTES * (2**31 - 1)
# Between the headers of a local tar much is passed over. From a store it comes along: the time that one more request
# takes is that of some megabytes.
_LOCAL_BUFFER_BYTES = 2**16
# Kinds of members that a note counts.
_KINDS = 20


@dataclass(slots=True)
class LeftOut:
    """What is not used of the samples of some tars.

    Attributes:
        members: by kind.
        rivals: pictures whose sample has another, by what they are.
        without_picture: samples of no use.
    """

    members: Counter[str] = field(default_factory=Counter)
    rivals: Counter[str] = field(default_factory=Counter)
    without_picture: int = 0

    def named(self) -> dict[str, Any]:
        """What there is, as JSON can hold it."""
        counts = {"members": dict(self.members), "rivals": dict(self.rivals), "without_picture": self.without_picture}
        return {name: count for name, count in counts.items() if count}

    def add(self, named: Mapping[str, Any]) -> None:
        """Count as well what `named` gave."""
        for kinds, name in ((self.members, "members"), (self.rivals, "rivals")):
            for kind, count in named.get(name, {}).items():
                _count(kinds, kind, count)
        self.without_picture += named.get("without_picture", 0)


@dataclass(slots=True)
class Shards:
    """What the first shard with pictures has, which all are read for, and what was left out of them.

    Attributes:
        wanted: `columns.bytes_column`: which of a sample's pictures is animated; None: the first plain one.
        pictures: members that are animated, in order of preference.
        texts: members that are columns.
        beside: pictures that stand beside one that is animated, as masks do; alone they are not animated either.
        here, before: what was left out of the tar at hand, and of those before it.
    """

    wanted: str | None = None
    pictures: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    beside: frozenset[str] = frozenset()
    here: LeftOut = field(default_factory=LeftOut)
    before: LeftOut = field(default_factory=LeftOut)

    @property
    def image(self) -> str:
        """What the column of images is called."""
        return IMAGE if self.wanted is None else self.wanted

    def learn(self, uri: str, first: Sequence[Sample]) -> None:
        """Decide what members are, by the first samples, of which all text was read.

        Where none has a picture it stays open, and the next shard tells.
        """
        seen = list(dict.fromkeys(what for sample in first for what in sample.members))
        pictures = [what for what in seen if _is_picture(what)]
        plain = [what for what in pictures if "." not in what]
        if self.wanted not in (None, IMAGE) and self.image.lower() not in seen:
            raise ManifestError(
                f"{uri}: columns.bytes_column is {self.wanted}, but its samples have no member of that name; the first "
                f"have {', '.join(seen[:_KINDS])}"
            )
        self.pictures = [self.image.lower()] if self.image != IMAGE else plain or pictures[:1]
        if not self.pictures:
            return
        chosen = set(self.pictures)
        with_chosen = (sample.members for sample in first if chosen & sample.members.keys())
        self.beside = frozenset(what for members in with_chosen for what in members if _is_picture(what)) - chosen
        others = [what for what in seen if what not in {*pictures, *self.pictures, IMAGE, KEY}]
        self.texts = [what for what in others if all(_is_text(sample.members.get(what)) for sample in first)]
        check_names(uri, self.texts)

    def picture_of(self, sample: Sample) -> Member | None:
        """The picture that is animated, and the count of what is not used."""
        chosen = next((what for what in self.pictures if what in sample.members), None) or self._other_picture(sample)
        for what in sample.members:
            if what != chosen and (_is_picture(what) or what in self.pictures):
                _count(self.here.rivals, what)
            elif what != chosen and what not in self.texts:
                self.pass_over(f".{what}")
        self.here.without_picture += chosen is None
        return None if chosen is None else sample.members[chosen]

    def _other_picture(self, sample: Sample) -> str | None:
        """Of a sample without what is animated of others: `1.v2.jpg` alone is a picture, `1.mask.png` alone is none."""
        return next(filter(self.may_be_animated, sample.members), None)

    def may_be_animated(self, what: str) -> bool:
        """Whether a member is animated, at least where its sample has no better one."""
        if what in self.pictures or self.image != IMAGE:
            return what in self.pictures
        return _is_picture(what) and what not in self.beside and not is_side_name(what)

    def pass_over(self, kind: str) -> None:
        """Count a member that is not used."""
        _count(self.here.members, kind)

    def take(self) -> dict[str, Any]:
        """As in `Tally`: what was left out since the last call."""
        taken = self.here.named()
        self.before.add(taken)
        self.here = LeftOut()
        return taken

    def add(self, taken: Mapping[str, Any]) -> None:
        """As in `Tally`."""
        self.before.add(taken)

    def notes(self, given: str) -> list[str]:
        """What the user may want to know, when all was read."""
        said = []
        out = LeftOut()
        for counted in (self.before, self.here):
            out.add(counted.named())
        if out.members:
            said.append(f"members of tars that were left out: {out.members.total():,} ({_kinds(out.members)})")
        if out.without_picture:
            said.append(f"samples that have no picture and were left out: {out.without_picture:,}")
        if out.rivals:
            said.append(
                f"of a sample's pictures {' or '.join(self.pictures[:_KINDS])} is animated; others that were left out: "
                f"{out.rivals.total():,} ({_kinds(out.rivals)}); columns.bytes_column can name another"
            )
        return [f"{given}: {one}" for one in said]


class TarManifest:
    """One tar."""

    def __init__(self, storage: Storage, uri: str, shards: Shards) -> None:
        self.uri, self._storage, self._shards = uri, storage, shards
        # Of a tar without pictures, such as a shard whose downloads have all failed.
        self.num_samples, self.first_members = 0, ""
        if not shards.pictures:  # no tar before this one has any
            with self._samples(lambda what, size: size <= _TEXT_BYTES and not _is_picture(what)) as found:
                shards.learn(uri, self._first(found))
        texts = [pa.field(what, pa.string()) for what in shards.texts]
        self.schema = pa.schema([pa.field(KEY, pa.string()), pa.field(shards.image, pa.binary()), *texts])

    def _first(self, found: Iterator[Sample]) -> list[Sample]:
        """The first samples, and where none of them has a picture, the first that has one."""
        first = list(islice(found, _FIRST_SAMPLES))
        self.num_samples = len(first)
        self.first_members = ", ".join(list(dict.fromkeys(what for one in first for what in one.members))[:_KINDS])
        if not any(map(_has_picture, first)):
            for sample in found:
                self.num_samples += 1
                if _has_picture(sample):
                    return [*first, sample]
        return first

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        """As in `ManifestFile`; the pictures themselves are null."""
        uncounted = replace(self._shards, here=LeftOut(), before=LeftOut())
        return self._batches(names, max_rows, uncounted, hashed=False)

    def batches_with_images(self, names: Sequence[str], image: str, max_rows: int, *, hashed: bool) -> Iterator[Batch]:
        """As in `HoldsImages`."""
        assert image == self._shards.image, image
        return self._batches(names, max_rows, self._shards, hashed=hashed)

    def _batches(self, names: Sequence[str], max_rows: int, shards: Shards, *, hashed: bool) -> Iterator[Batch]:
        """`shards` counts what is left out."""
        wanted = set(names)
        with self._samples(
            lambda what, size: what in wanted and what in shards.texts and size <= _TEXT_BYTES,
            hashes=shards.may_be_animated if hashed else None,
            passes=shards.pass_over,
        ) as found:
            usable = (
                (number, (sample, picture), _length(sample))
                for number, sample in enumerate(found, 1)
                if (picture := shards.picture_of(sample)) is not None
            )
            for numbers, rows in batched(usable, max_rows):
                table = pa.table({name: _values(name, [sample for sample, _ in rows]) for name in names})
                pictures = [picture for _, picture in rows]
                yield Batch(table, pa.array(numbers, pa.int64()), images=self._embedded(pictures))

    def _embedded(self, pictures: Sequence[Member]) -> Embedded:
        nothing = pa.nulls(len(pictures), pa.string())
        return Embedded(
            column=pa.array([picture.name for picture in pictures], pa.string()),
            group=pa.array([TAR_GROUP] * len(pictures), pa.int32()),
            row=pa.array([picture.block for picture in pictures], pa.int32()),
            path=nothing,
            sha256=pa.array([picture.sha256 for picture in pictures], pa.string()),
            name=pa.array([f"{self.uri}#{picture.name}" for picture in pictures], pa.string()),
        )

    @contextmanager
    def _samples(
        self,
        reads: Callable[[str, int], bool],
        hashes: Callable[[str], bool] | None = None,
        passes: Callable[[str], None] = lambda _kind: None,
    ) -> Iterator[Iterator[Sample]]:
        is_local = self._storage.is_local(self.uri)
        with self._storage.open_exact(self.uri) if is_local else self._storage.open(self.uri) as opened:
            stream: BufferedReader[Any] = (
                BufferedReader(opened, _LOCAL_BUFFER_BYTES) if is_local else cast("Any", opened)
            )
            refuse_empty(self.uri, stream)
            if self._storage.size(self.uri) > _MOST_BYTES:
                raise ManifestError(f"{self.uri} is larger than {_MOST_BYTES:,} bytes: write several tars")
            yield samples(self.uri, stream, reads=reads, hashes=hashes or (lambda _what: False), passes=passes)


def _is_picture(what: str) -> bool:
    return EXTENSIONS.get("." + what.rpartition(".")[2]) == "images"


def _has_picture(sample: Sample) -> bool:
    return any(map(_is_picture, sample.members))


def _count(kinds: Counter[str], kind: str, count: int = 1) -> None:
    kinds[kind if kind in kinds or len(kinds) < _KINDS else "others"] += count


def _kinds(kinds: Counter[str]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common())


def _is_text(member: Member | None) -> bool:
    if member is None:
        return True
    return member.text is not None and "\0" not in member.text and "\ufffd" not in member.text


def _length(sample: Sample) -> int:
    return sum(len(member.name) + len(member.text or "") for member in sample.members.values())


def _values(name: str, rows: Sequence[Sample]) -> pa.Array:
    if name == KEY:
        return pa.array([sample.key for sample in rows], pa.string())
    members = [sample.members.get(name) for sample in rows]
    return pa.array([None if member is None else member.text for member in members], pa.string())
