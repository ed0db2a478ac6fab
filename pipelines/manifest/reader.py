"""Any manifest as a stream of Arrow tables with one fixed schema; never the whole manifest in memory.

    sources -> files -> rows as they stand there -> rows of the schema below -> chunks

A chunk's columns: `image_uri` (string, never null), `image_identity` (string, never null: what the image is known by,
only where that is not its URI), `actors.contracts.PLACE_SCHEMA` (of which `image_fallback` alone where the manifest has
no column of images), `image_license` (string; only where the manifest has a column of licences),
`problem` (string; why the row cannot be used, else null), the overrides that the manifest has (parameters of the
generator; null leaves the configured value), then the pass-through columns.

A row that cannot be used stays in its chunk, with its `problem`: it is the plan's to record. A file that cannot be read
is a ManifestError.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from actors.contracts import PLACE_SCHEMA
from actors.errors import ManifestError, StorageError
from actors.generators.parameters import Parameters
from actors.secrets import public_uri
from actors.storage import Storage
from pipelines.manifest import licences
from pipelines.manifest.chunks import Chunk, limited, regrouped
from pipelines.manifest.column_names import short_name
from pipelines.manifest.columns import (
    CONTENT,
    URI,
    ColumnRoles,
    ManifestColumns,
    base_of,
    check_override,
)
from pipelines.manifest.files import URI_COLUMN, Batch, HoldsImages, ManifestFile, images_uri
from pipelines.manifest.formats import may_lack_columns
from pipelines.manifest.image_identity import Fetch, Made, by_column, by_content
from pipelines.manifest.pass_through import left_out, other_type, passthrough_types, renamed
from pipelines.manifest.readings import Later, Reading, Source
from pipelines.manifest.rows import (
    Marks,
    RowProblems,
    embedded_columns,
    extra,
    image_columns,
    override,
    without_secrets,
)
from pipelines.manifest.templates import Template, check_columns, column_of, columns_of, filled

# 10 to 50 MB of ordinary rows.
CHUNK_ROWS = 100_000
# Of a long path the end, because that is where files differ.
_SHOWN_CHARACTERS = 50
Check = Callable[[pa.Table, RowProblems], pa.Table]

_OWN_COLUMNS = ("image_uri", "image_identity", licences.COLUMN, *PLACE_SCHEMA.names, "problem")


class ManifestReader:
    """The rows of a manifest, to be streamed once.

    Attributes:
        schema: of every chunk.
        overrides: names of the parameters that the manifest has a column for.
        extras: the pass-through columns, as the chunks name them.
        notes: what was decided about columns and the user may want to know.
        problems: filled while the chunks are read.
        closing: what gives notes that are known when all chunks were read.
        check: marks rows of `schema` that cannot be used for another reason.
        passes: whether a file need not be read, whose rows are known: the number of them, or None.
        made: of images that are gone, which content they had when clips were made of them.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        columns: ManifestColumns,
        parameters: type[Parameters],
        chunk_rows: int,
        reserved: Collection[str],
        storage: Storage,
        max_image_bytes: int,
        *,
        templates: Sequence[Template] = (),
    ) -> None:
        self._templates, self._named = templates, columns_of(templates)
        for source in sources if templates else ():
            check_columns(templates, source.first.schema.names, public_uri(source.first.uri))
        self._storage, self._max_image_bytes = storage, max_image_bytes
        self._sources, self._columns, self._parameters, self._chunk_rows = sources, columns, parameters, chunk_rows
        varying = parameters.varying()
        self.overrides = tuple(name for name in varying if any(name in source.roles.overrides for source in sources))
        kinds = passthrough_types(sources, columns)
        self._renamed = renamed(kinds, {*reserved, *_OWN_COLUMNS, *varying})
        self.extras = pa.schema([pa.field(self._renamed[name], kind) for name, kind in kinds.items()])
        embeds = any(source.roles.image for source in sources)
        self.schema = pa.schema(
            [
                pa.field("image_uri", pa.string()),
                *([] if columns.identity == URI else [pa.field("image_identity", pa.string())]),
                *(PLACE_SCHEMA if embeds else [PLACE_SCHEMA.field("image_fallback")]),
                *([pa.field(licences.COLUMN, pa.string())] if any(source.roles.license for source in sources) else []),
                pa.field("problem", pa.string()),
                *(pa.field(name, parameters.arrow_type(name)) for name in self.overrides),
                *(pa.field(column_of(one.name, one.text), pa.string()) for one in templates),
                *self.extras,
            ]
        )
        self.notes = [
            f"column {name} of the manifest travels as {new}, because that name is taken"
            for name, new in self._renamed.items()
            if new != name
        ]
        by_name = (source.roles.license for source in sources if columns.license_column is None)
        self.notes += [
            f"column {short_name(name)} of the manifest has the images' licences, which become {licences.COLUMN} of "
            "the metadata; columns.license_column can name another one"
            for name in dict.fromkeys(filter(None, by_name))
            if name != licences.COLUMN
        ]
        of_images = ([*source.roles.notes, *left_out(source)] for source in sources)
        self.notes += dict.fromkeys(chain.from_iterable(of_images))
        self.problems = RowProblems()
        self._has_rows = False
        self.closing: Sequence[Callable[[], list[str]]] = ()
        self.check: Check = lambda table, _problems: table
        self.passes: Callable[[Source, Later], int | None] = lambda _source, _file: None
        self.made: Made = lambda uris: [None] * len(uris)

    def closing_notes(self) -> list[str]:
        """What was left out of the manifest, after all chunks were read."""
        return list(dict.fromkeys(chain.from_iterable(notes() for notes in self.closing)))

    def chunks(self) -> Iterator[pa.Table]:
        """Tables of `schema`, of at most `chunk_rows` rows.

        Raises:
            ManifestError: a file is damaged or unlike those before it, or there is no row at all.
        """
        return (piece.table for piece in self.pieces())

    def pieces(self) -> Iterator[Chunk]:
        """The same, and which files they are of; without the files that `passes` knows."""
        with as_manifest_errors():
            for chunk in regrouped(limited(self._tables(), self._columns.limit), self._chunk_rows):
                self._has_rows = True
                yield chunk
            if not self._has_rows:
                raise ManifestError(f"the manifest has no rows: {', '.join(s.first.uri for s in self._sources)}")

    def _tables(self) -> Iterator[tuple[pa.Table, Reading]]:
        for source in self._sources:
            for later in source.files:
                if (known := self.passes(source, later)) is not None:
                    self._has_rows |= known > 0
                    continue
                file, reading = later.opened(), Reading(source, later, RowProblems(within=self.problems))
                _check_part(file, source, self._columns, self._parameters)
                for batch in self._batches(file, source.roles):
                    yield self.check(self._normalised(batch, file, reading), reading.problems), reading
                reading.is_whole = True
                if source.tally is not None:
                    reading.left_out = source.tally.take()

    def _batches(self, file: ManifestFile, roles: ColumnRoles) -> Iterator[Batch]:
        there = set(file.schema.names)
        present = [name for name in dict.fromkeys([*roles.columns, *self._named]) if name in there]
        if roles.image is None:
            return file.batches(present, self._chunk_rows)
        assert isinstance(file, HoldsImages), file.uri  # no other format has such a column
        beside = [name for name in present if name != roles.image or name in roles.passthrough]
        hashed = self._columns.identity == CONTENT
        return file.batches_with_images(beside, roles.image, self._chunk_rows, hashed=hashed)

    def _normalised(self, batch: Batch, file: ManifestFile, reading: Reading) -> pa.Table:
        """The rows of one file as rows of `schema`."""
        roles = reading.source.roles
        marks = Marks(file.uri, batch.rows, reading.problems)
        if batch.misnamed is not None:
            ends = pc.utf8_slice_codeunits(batch.table[URI_COLUMN], -_SHOWN_CHARACTERS)
            marks.mark(batch.misnamed, "the file's name must be UTF-8 text", ends)
        there = set(batch.table.column_names)
        given = {
            name: batch.table[name].combine_chunks() if name in there else pa.nulls(len(batch.rows))
            for name in dict.fromkeys([*roles.columns, *self._named])
        }
        columns = self._images(batch, given, file, reading, marks)
        for name in roles.overrides:
            columns[name] = override(name, given[name], self._parameters, marks)
        named = given
        if roles.uri in self._named and not pa.types.is_binary(given[roles.uri].type):
            named = {**given, roles.uri: without_secrets(given[roles.uri])}
        for template in self._templates:
            columns[column_of(template.name, template.text)] = self._filled(template, named, columns, marks)
        for name in roles.passthrough:
            kept = self.extras.field(self._renamed[name])
            values = without_secrets(given[name]) if name == roles.uri else given[name]
            columns[kept.name] = extra(name, values, kept.type, marks)
        if roles.license is not None:
            columns[licences.COLUMN] = licences.licences(given[roles.license])
        columns["problem"] = pa.array(marks.texts, pa.string())
        size = len(batch.rows)
        return pa.table([columns.get(col.name, pa.nulls(size, col.type)) for col in self.schema], schema=self.schema)

    def _filled(
        self, template: Template, given: Mapping[str, pa.Array], columns: Mapping[str, pa.Array], marks: Marks
    ) -> pa.Array:
        """The texts of a template; a row that takes one which lacks a value has a problem."""
        texts, lacking = filled(template, given, len(marks.texts))
        own = columns.get(template.name)
        if own is not None and not template.takes_own:
            lacking = pc.and_(lacking, pc.is_null(own))
        marks.mark(lacking, f"{template.name}: a column that it names is empty ({', '.join(template.columns)})")
        return override(template.name, texts, self._parameters, marks)

    def _images(
        self,
        batch: Batch,
        given: Mapping[str, pa.Array],
        file: ManifestFile,
        reading: Reading,
        marks: Marks,
    ) -> dict[str, pa.Array]:
        """What the images are called, where they lie, and what they are known by."""
        roles, allowed = reading.source.roles, reading.source.allowed
        base = base_of(file, self._columns)
        uris = None if roles.uri is None else given[roles.uri]
        if batch.images is None:
            assert roles.uri is not None, file.uri
            columns = image_columns(uris, base, roles.uri, allowed, marks)
        else:
            columns = embedded_columns(uris, batch.images, images_uri(file), base, allowed, marks)
        if roles.identity is not None:
            columns["image_identity"] = by_column(roles.identity, given[roles.identity], marks)
        elif self._columns.identity == CONTENT:
            fetched = columns["image_fallback"]
            if batch.images is None:
                fetched = pc.coalesce(fetched, columns["image_uri"])
            storage = self._storage.guarded(allowed.web)
            # What lies at a URI changes, and no file of the manifest with it.
            reading.is_settled &= batch.images is not None and not batch.images.sha256.null_count
            fetch, names = Fetch(storage, self._max_image_bytes), columns["image_uri"]
            columns["image_identity"] = by_content(fetched, batch.images, fetch, names, self.made, marks)
        return columns


def _check_part(file: ManifestFile, source: Source, columns: ManifestColumns, parameters: type[Parameters]) -> None:
    """Refuse a file whose columns are not those of the first: a fixed schema would lose some in silence."""
    first = source.first
    may_lack = may_lack_columns(file)
    known, there = set(first.schema.names), set(file.schema.names)
    for name in source.roles.needed:
        if name not in there:
            if not may_lack:
                raise ManifestError(f"column {name} is in {first.uri} and not in {file.uri}: all parts need the same")
            continue
        kind, other = first.schema.field(name).type, file.schema.field(name).type
        if name in source.roles.overrides:
            check_override(name, file, parameters)
        elif other not in (kind, pa.null()) and name not in columns.types:
            raise ManifestError(other_type(name, kind, first.uri, other, file.uri))
    new = [name for name in file.schema.names if name not in known]
    if new and columns.passthrough == "all":
        raise ManifestError(
            f"column {new[0]} is in {file.uri} and not in {first.uri}: all parts need the same, or name those to "
            "keep in columns.passthrough"
        )


@contextmanager
def as_manifest_errors() -> Iterator[None]:
    """Within the block, what a store cannot give is a ManifestError."""
    try:
        yield
    except StorageError as error:
        raise ManifestError(f"the manifest cannot be read: {error}") from error
