"""The beginning of reading: which files, of which kinds, with which columns, so that the schema is known."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import chain, groupby

from actors.errors import ManifestError
from actors.generators.parameters import Parameters
from actors.storage import Storage
from pipelines.manifest.columns import (
    CONTENT,
    URI,
    ManifestColumns,
    column_roles,
    only_uris,
)
from pipelines.manifest.files import Format
from pipelines.manifest.formats import Opener
from pipelines.manifest.image_uris import AllowedImages
from pipelines.manifest.own_datasets import OwnDatasets
from pipelines.manifest.reader import CHUNK_ROWS, Check, ManifestReader, as_manifest_errors
from pipelines.manifest.readings import Later, Source
from pipelines.manifest.sources import Found, find_files
from pipelines.manifest.tables import Wanted, is_table
from pipelines.manifest.templates import Template
from pipelines.manifest.uri_lists import ImageList


def read_manifest(  # noqa: PLR0913 - all but the first by name
    sources: Sequence[str],
    *,
    columns: ManifestColumns,
    parameters: type[Parameters],
    storage: Storage,
    chunk_rows: int = CHUNK_ROWS,
    reserved: Collection[str] = (),
    output: str | None = None,
    schemes: Sequence[str] | None = None,
    prefixes: Sequence[str] = (),
    private_networks: bool = False,
    max_image_bytes: int = 2**40,
    templates: Sequence[Template] = (),
    check: Check | None = None,
) -> ManifestReader:
    """Look at the sources' columns, so that the schema is known before the first row.

    Args:
        sources: files, folders, globs and images, in any mixture; each kind of file has its own columns, and a chunk
            has those of all.
        parameters: of the generator; columns of their names override them.
        reserved: names that pass-through columns may not take, in whatever case; they get RENAME_PREFIX then.
        output: the dataset's folder; images may lie where it does, unless it is local and the manifest is not.
        schemes: what images may have instead of the schemes of manifest and output (`storage.schemes`).
        prefixes, private_networks: where else they may lie (`storage`).
        max_image_bytes: larger images are not read for their identity.
        templates: texts that are made of the rows' columns.
        check: as in `ManifestReader`.

    Raises:
        ManifestError: a source is missing or of an unknown kind, or its columns cannot be used.
    """
    with as_manifest_errors():
        datasets = OwnDatasets(output, storage)
        found = [find_files(source, columns.format, storage, datasets) for source in sources]
        _refuse_columns_of_none([one.kind for one in found], columns)
        allow = partial(
            AllowedImages.beside,
            output=output,
            schemes=schemes,
            base=columns.base,
            prefixes=prefixes,
            private_networks=private_networks,
        )
        opened: list[Source] = []
        closing: list[Callable[[], list[str]]] = [partial(one.passed.notes, one.given) for one in found]
        for kind, group in groupby(found, key=lambda one: one.kind):
            alike = list(group)
            if kind == "images":  # eight images in a list are one manifest of eight rows, not eight manifests
                images = ImageList((one.root, one.files) for one in alike)
                roles = only_uris(images.columns, columns, parameters)
                opened.append(Source(images, iter([Later.of(images)]), roles, allow([one.given for one in alike])))
                closing.append(images.notes)
                continue
            for one in alike:
                allowed = allow([one.given])
                snapshot = Wanted(columns.table_version, allowed)
                opener = Opener(storage, kind, one.root, columns.bytes_column, snapshot)
                opened.append(_open_source(one, opener, columns, parameters, allowed))
                closing.append(partial(opener.notes, one.given))
        reader = ManifestReader(
            opened, columns, parameters, chunk_rows, reserved, storage, max_image_bytes, templates=templates
        )
        reader.closing = closing
        reader.check = check or reader.check
        return reader


def _refuse_columns_of_none(kinds: Sequence[Format], columns: ManifestColumns) -> None:
    tables = sum(map(is_table, kinds))
    if columns.table_version is not None and tables != 1:
        raise ManifestError(
            "columns.table_version is set, and the manifest "
            + ("has several tables: read one at a time" if tables else "is no table: remove it")
        )
    is_set = {name: getattr(columns, name) is not None for name in ("uri_column", "bytes_column")}
    if any(is_set.values()) and {"text", "images"}.issuperset(kinds):
        setting = next(name for name in is_set if is_set[name])
        raise ManifestError(f"columns.{setting} is set, but a manifest of {' and '.join(kinds)} has no columns")
    if columns.identity not in (URI, CONTENT) and {"text", "images"}.intersection(kinds):
        raise ManifestError(f"columns.identity is {columns.identity}, but a manifest of {kinds[0]} has no columns")


def _open_source(
    found: Found,
    opener: Opener,
    columns: ManifestColumns,
    parameters: type[Parameters],
    allowed: AllowedImages,
) -> Source:
    files = opener.files(found.files, found.versions)
    later = next(files)
    first = later.opened()
    if not first.schema.names:
        raise ManifestError(f"the manifest has no rows: {first.uri}")
    roles = (
        only_uris((), columns, parameters)
        if found.kind == "text"
        else column_roles(first, columns, parameters, allowed)
    )
    return Source(first, chain([later], files), roles, allowed, opener, opener.traits)
