"""Which class reads a file of which format. Column types never depend on which rows a block happens to hold."""

from actors.errors import ManifestError
from actors.storage import Storage
from pipelines.manifest.csv_files import CsvManifest
from pipelines.manifest.files import Format, ManifestFile
from pipelines.manifest.json_lines import JsonLinesManifest
from pipelines.manifest.opening import is_utf8, spelled
from pipelines.manifest.parquet_files import ParquetManifest
from pipelines.manifest.uri_lists import TextManifest


def open_file(storage: Storage, uri: str, kind: Format) -> ManifestFile:
    """Read what must be known before the rows: the columns and their types."""
    if not is_utf8(uri):  # the names of its images begin with its own
        raise ManifestError(f"{spelled(uri)}: this path is not UTF-8 text: rename it")
    if kind == "parquet":
        return ParquetManifest(storage, uri)
    if kind == "jsonl":
        return JsonLinesManifest(storage, uri)
    if kind == "text":
        return TextManifest(storage, uri)
    return CsvManifest(storage, uri, "\t" if kind == "tsv" else ",")
