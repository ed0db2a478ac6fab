"""A Parquet file of a table, which says what its columns are called, of what type they are, and what was deleted."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
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
class TableColumns:
    """The columns of a table, and where its files have them.

    Attributes:
        table: its folder.
        names: what the files call each column.
        unlike: columns whose inner fields have other names in the files.
    """

    table: str
    schema: pa.Schema
    names: Mapping[str, str]
    unlike: Collection[str] = ()


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
        columns: TableColumns,
        *,
        version: str,
        constants: Mapping[str, pa.Scalar],
        deleted: Deleted | None = None,
    ) -> None:
        """`constants`: the columns whose values the partition says."""
        self.uri, self.schema, self.version, self.base = uri, columns.schema, version, columns.table
        self._storage, self._names, self._unlike = storage, columns.names, columns.unlike
        self._constants, self._deleted = constants, deleted

    @cached_property
    def _file(self) -> ParquetManifest:
        try:
            return ParquetManifest(self._storage, self.uri)
        except NotFound as error:
            raise ManifestError(
                f"{self.base}: the table's file {self.uri} is gone, as after a vacuum: read a newer version of the "
                "table, or restore the file"
            ) from error

    def batches(self, names: Sequence[str], max_rows: int) -> Iterator[Batch]:
        """As in `ManifestFile`."""
        # Of no column at all no rows would come.
        own = self._own(names) or self._file.schema.names[:1]
        for batch in self._file.batches(own, max_rows):
            yield self._left(self._of_table(batch, names))

    def batches_with_images(self, names: Sequence[str], image: str, max_rows: int, *, hashed: bool) -> Iterator[Batch]:
        """As in `HoldsImages`."""
        column = self._names[image]
        if column not in self._file.schema.names:  # from before the table had it
            raise ManifestError(
                f"{self.uri}: this file of the table {self.base} is older than the column {image}, and so has no "
                "images: rewrite the table, or leave these rows out"
            )
        for batch in self._file.batches_with_images(self._own(names), column, max_rows, hashed=hashed):
            yield self._left(self._of_table(batch, names))

    def _own(self, names: Sequence[str]) -> list[str]:
        there = set(self._file.schema.names)
        return [self._names[name] for name in names if name not in self._constants and self._names[name] in there]

    def _of_table(self, batch: Batch, names: Sequence[str]) -> Batch:
        """The columns `names` as the table has them."""
        columns = [self._column(name, batch) for name in names]
        schema = pa.schema([self.schema.field(name) for name in names])
        return replace(batch, table=pa.table(columns, schema=schema))

    def _column(self, name: str, batch: Batch) -> pa.Array:
        kind, size = self.schema.field(name).type, len(batch.rows)
        if name in self._constants:
            return pa.repeat(self._constants[name], size)
        if self._names[name] not in batch.table.column_names:
            return pa.nulls(size, kind)
        if name in self._unlike:
            raise ManifestError(
                f"{self.base}: fields within column {name} were renamed, which is not followed here: leave it out of "
                "columns.passthrough, or rewrite the table"
            )
        column = batch.table[self._names[name]]
        try:
            return pc.cast(column, kind)
        except pa.ArrowException as error:
            raise ManifestError(
                f"{self.uri}: column {name} is {column.type!s:.100}, which is not {kind!s:.100}, as in the table "
                f"{self.base} ({one_line(str(error))[:100]}): rewrite the table"
            ) from error

    def _left(self, batch: Batch) -> Batch:
        """Without the rows that were deleted."""
        if self._deleted is None or not len(batch.rows):
            return batch
        kept = self._deleted.of(batch.rows[0].as_py() - 1, len(batch.rows))
        table = batch.table.filter(kept) if batch.table.num_columns else batch.table
        images = batch.images and batch.images.filter(kept)
        return replace(batch, table=table, rows=batch.rows.filter(kept), images=images)
