"""Looking through a folder or a glob: which of its files are a manifest's, and what all the others are."""

import json
import re
from collections.abc import Iterator
from typing import Literal

from actors.errors import ManifestError
from actors.listings import Looks
from actors.storage import NotFound, Storage
from actors.uris import file_name
from pipelines.manifest.files import EXTENSIONS, Format, TableFormat, format_of
from pipelines.manifest.own_datasets import OwnDatasets
from pipelines.manifest.passed_over import (
    BESIDE,
    HIDDEN,
    NO_EXTENSION,
    NOT_OF_DATASET,
    OTHER_FORMATS,
    OTHER_KINDS,
    SHARD_LISTS,
    STATISTICS,
    PassedOver,
    ending_of,
)
from pipelines.manifest.tables import DELTA_LOG, METADATA_FILE, NAMES, table_at

# Beside other files these are captions, a README, or what a tool notes of them, unless the pattern asks for them.
_BESIDE: frozenset[Format] = frozenset({"text", "json"})
# What img2dataset counts of a shard, and what `datasets` says of a saved dataset.
_STATISTICS = re.compile(r"\d+_stats\.json|dataset_infos?\.json|dataset_dict\.json|state\.json")
# img2dataset's shards: a list of images, and the images in a tar or folder of the same name beside it.
_SHARD_LIST = re.compile(r"\d+\.parquet")
# What `datasets` keeps of `map` and its like.
_CACHE = re.compile(r"cache-[0-9a-f]{16}.*\.arrow")


class Search:
    """One walk through a folder, or through what matches a glob.

    Attributes:
        root: the folder that it begins with.
        wanted: a format, or `auto` for all that are known.
        passed: what it has left out so far.
        versions: of manifests that it has just given, where the listing told them.
    """

    def __init__(
        self,
        uri: str,
        root: str,
        wanted: Literal["auto"] | Format,
        storage: Storage,
        datasets: OwnDatasets,
        *,
        is_glob: bool = False,
    ) -> None:
        self.root, self.wanted, self.passed = root.rstrip("/"), wanted, PassedOver()
        self._uri, self._storage, self._datasets, self._is_glob = uri, storage, datasets, is_glob
        asked = format_of(uri)
        kinds = frozenset(EXTENSIONS.values()) - (_BESIDE - {asked})
        self._kinds = kinds if wanted == "auto" else frozenset({wanted})
        self._saved: tuple[str, frozenset[str] | None] = "", None
        self._shards: tuple[str, frozenset[str]] = "", frozenset()
        self.versions: dict[str, str] = {}

    def files(self) -> Iterator[tuple[str, Format]]:
        """The files, each with its format, in a fixed order."""
        looks = Looks(self._looks_into, self._looks_through, self._gives, self._pass, self._see)
        walk = self._storage.glob if self._is_glob else self._storage.walk
        for uri in walk(self._uri, looks):
            kind = self._kind(uri)
            if reason := self._why_not(uri, kind):
                if not self._datasets.is_card(uri):
                    self.passed.add(uri, reason)
            else:
                assert kind is not None, uri  # or there is a reason
                yield uri, kind

    def _looks_into(self, folder: str) -> bool:
        if file_name(folder) == DELTA_LOG:
            self._refuse_table("delta", self._storage.parent(folder))
        return not self._below(folder).rpartition("/")[2].startswith(".") and self._datasets.looks_into(
            folder, self.passed
        )

    def refuse_table_around(self, uri: str) -> None:
        """Raise ManifestError for a file that lies in a table: it is not to be named as a manifest."""
        folder = self._storage.parent(uri)
        while len(folder) > len(self.root):
            if (table := table_at(folder, self._storage, is_folder=True)) is not None:
                self._refuse_table(table, folder)
            folder = self._storage.parent(folder)

    def _refuse_table(self, kind: TableFormat, table: str) -> None:
        """Raise ManifestError: of a table's files some are in it no longer, and which, only its log says."""
        if self.wanted == "auto":
            raise ManifestError(
                f"{table} is {NAMES[kind]}: name it as a source of its own, or set columns.format to read the files as "
                "they lie there"
            )

    def _looks_through(self, target: str) -> bool:
        return self._datasets.looks_through(target, self.passed)

    def _gives(self, uri: str) -> bool:
        """Whether a file may be one of the manifest, by its name alone."""
        kind = self._kind(uri)
        return kind in self._kinds and not self._is_hidden(uri, kind)

    def _see(self, uri: str, version: str) -> None:
        if self._kind(uri) not in (None, "images"):  # of which there are millions, and none is opened to plan
            self.versions[uri] = version

    def _pass(self, uri: str, reason: str) -> None:
        if not self._is_hidden(uri, format_of(uri)):
            self.passed.add(uri, reason)

    def _why_not(self, uri: str, kind: Format | None) -> str | None:  # noqa: PLR0911 - a list of reasons
        if self._is_hidden(uri, kind):
            return HIDDEN
        if kind is None:
            return OTHER_KINDS
        if (metadata := METADATA_FILE.fullmatch(uri)) is not None:
            self._refuse_table("iceberg", metadata[1])
        if kind == "json" and _STATISTICS.fullmatch(file_name(uri)):
            return STATISTICS
        if kind not in self._kinds:
            return BESIDE if self.wanted == "auto" else OTHER_FORMATS
        if kind == "arrow" and not self._is_of_saved_dataset(uri):
            return NOT_OF_DATASET
        if kind == "parquet" and self.wanted == "auto" and self._lists_a_shard(uri):
            return SHARD_LISTS
        return None

    def _kind(self, uri: str) -> Format | None:
        """By the extension; a file without one is what `columns.format` says, if a pattern asks for it."""
        if self._is_glob and self.wanted != "auto" and ending_of(uri) == NO_EXTENSION:
            return self.wanted
        return format_of(uri)

    def _below(self, uri: str) -> str:
        return uri[len(self.root) :].lstrip("/")

    def _is_hidden(self, uri: str, kind: Format | None) -> bool:
        """Whether a part of the path below the root is hidden, or a writer's own (`_SUCCESS`, `_temporary`).

        Among images the underscore means nothing: cameras write `_MG_0001.JPG`.
        """
        hidden = (".",) if kind == "images" else (".", "_")
        return any(part.startswith(hidden) for part in self._below(uri).split("/"))

    def _lists_a_shard(self, uri: str) -> bool:
        """Whether images are beside a list, in a tar or folder of its name; a folder of lists is listed once for it."""
        if not _SHARD_LIST.fullmatch(file_name(uri)):
            return False
        folder = self._storage.parent(uri)
        if self._shards[0] != folder:
            tars = (name for name in self._storage.list_names(folder) if name.endswith(".tar"))
            folders = map(file_name, self._storage.list_folders(folder))
            self._shards = folder, frozenset([*tars, *folders])
        stem = file_name(uri).removesuffix(".parquet")
        return not self._shards[1].isdisjoint({stem, f"{stem}.tar"})

    def _is_of_saved_dataset(self, uri: str) -> bool:
        """Whether `datasets.save_to_disk` names an Arrow file in its `state.json`, where there is one beside it."""
        folder = self._storage.parent(uri)
        if self._saved[0] != folder:
            self._saved = folder, self._files_of_state(self._storage.join(folder, "state.json"))
        names = self._saved[1]
        return _CACHE.fullmatch(file_name(uri)) is None if names is None else file_name(uri) in names

    def _files_of_state(self, uri: str) -> frozenset[str] | None:
        try:
            state = json.loads(self._storage.read_bytes(uri))
            return frozenset(file["filename"] for file in state["_data_files"])
        except (NotFound, ValueError, KeyError, TypeError):
            return None
