"""A Parquet file of a table, which says what its columns are called, of what type they are, and what was deleted."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.errors import ManifestError
from actors.storage import NotFound, Storage
from pipelines.manifest.files import Batch
from pipelines.manifest.opening import one_line
from pipelines.manifest.parquet_files import ParquetManifest


@dataclass(frozen=True, slots=True)
class Deleted:
    """The rows of a file that the table holds no longer.

    Attributes:
        kept: of each row in the file, whether it is still there; those behind its end all are.
    """

    kept: pa.BooleanArray

    @property
    def digest(self) -> str:
        """A name for these rows."""
        return hashlib.sha256(np.packbits(self.kept.to_numpy(zero_copy_only=False)).tobytes()).hexdigest()[:16]

    def of(self, first: int, count: int) -> pa.Array:
        """The mask of `count` rows from `first` on, counted from 0."""
        known = self.kept.slice(first, count)
        return pa.concat_arrays([known, pa.repeat(pa.scalar(True), count - len(known))])


@dataclass(frozen=True, slots=True)
class View:
    """How a data file shows its table.

    Attributes:
        names: what it calls each column of the table, as far as it has them.
        constants: columns of one value, which is not in the file; all others that are not there are null.
        unlike: columns whose inner fields have other names there.
        deleted: rows that are there, and that the table has no longer.
    """

    names: Mapping[str, str]
    constants: Mapping[str, pa.Scalar]
    unlike: Collection[str] = ()
    deleted: Deleted | None = None


class TableParquet:
    """A data file, opened when its rows are asked for.

    Attributes:
        schema: the table's.
        version, base: as in `TableFile`.
    """

    def __init__(
        self,
        storage: Storage,
        uri: str,
        schema: pa.Schema,
        *,
        version: str,
        base: str,
        view: Callable[[ParquetManifest], View],
    ) -> None:
        """`view` is asked when the file was opened."""
        self.uri, self.schema, self.version, self.base = uri, schema, version, base
        self._storage, self._look = storage, view

    @cached_property
    def _file(self) -> ParquetManifest:
        try:
            return ParquetManifest(self._storage, self.uri)
        except NotFound as error:
            raise ManifestError(
                f"{self.base}: the table's file {self.uri} is gone, as after a clean-up of old versions: read a newer "
                "version of the table, or restore the file"
            ) from error

    @cached_property
    def _view(self) -> View:
        return self._look(self._file)

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        """As in `ManifestFile`."""
        # Of no column at all no rows would come.
        own = self._own(names) or self._file.schema.names[:1]
        for batch in self._file.batches(own, max_rows):
            yield self._left(self._of_table(batch, names))

    def batches_with_images(self, names: Sequence[str], image: str, max_rows: int, *, hashed: bool) -> Iterator[Batch]:
        """As in `HoldsImages`."""
        column = self._in_file(image)
        if column is None:  # it is from before the table had it
            raise ManifestError(
                f"{self.uri}: this file of the table {self.base} is older than the column {image}, and so has no "
                "images: rewrite the table, or leave these rows out"
            )
        for batch in self._file.batches_with_images(self._own(names), column, max_rows, hashed=hashed):
            yield self._left(self._of_table(batch, names))

    def _in_file(self, name: str) -> str | None:
        """What the file calls a column; None where it has none."""
        own = None if name in self._view.constants else self._view.names.get(name)
        return own if own in self._file.schema.names else None

    def _own(self, names: Sequence[str]) -> list[str]:
        return [own for name in names if (own := self._in_file(name)) is not None]

    def _of_table(self, batch: Batch, names: Sequence[str]) -> Batch:
        """The columns `names` as the table has them."""
        columns = [self._column(name, batch) for name in names]
        schema = pa.schema([self.schema.field(name) for name in names])
        return replace(batch, table=pa.table(columns, schema=schema))

    def _column(self, name: str, batch: Batch) -> pa.Array:
        kind, size = self.schema.field(name).type, len(batch.rows)
        if name in self._view.constants:
            return pa.repeat(self._view.constants[name], size)
        own = self._in_file(name)
        if own is None:
            return pa.nulls(size, kind)
        if name in self._view.unlike:
            raise ManifestError(
                f"{self.base}: fields within column {name} were renamed, which is not followed here: leave it out of "
                "columns.passthrough, or rewrite the table"
            )
        column = batch.table[own]
        try:
            return pc.cast(column, kind)
        except pa.ArrowException as error:
            raise ManifestError(
                f"{self.uri}: column {name} is {column.type!s:.100}, which is not {kind!s:.100}, as in the table "
                f"{self.base} ({one_line(str(error))[:100]}): rewrite the table"
            ) from error

    def _left(self, batch: Batch) -> Batch:
        """Without the rows that were deleted."""
        if self._view.deleted is None or not len(batch.rows):
            return batch
        kept = self._view.deleted.of(batch.rows[0].as_py() - 1, len(batch.rows))
        table = batch.table.filter(kept) if batch.table.num_columns else batch.table
        images = batch.images and batch.images.filter(kept)
        return replace(batch, table=table, rows=batch.rows.filter(kept), images=images)
