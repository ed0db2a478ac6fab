"""What is in a dataset, read without the code that is tried."""

import hashlib
from pathlib import Path

import pyarrow.parquet as pq

from actors.storage import Storage
from pipelines.upkeep.looking import is_clip_id


class Place:
    """Where a damaged dataset lies: on this machine, or uploaded to the bucket `damages` of a store."""

    def __init__(self, root: Path, storage: Storage | None = None) -> None:
        self._root, self._storage = root, storage
        self.uri = str(root)
        if storage is not None:
            self.uri = f"s3://damages/{root.parent.name}"
            for path in root.rglob("*"):
                if path.is_file():
                    storage.put_bytes(f"{self.uri}/{path.relative_to(root)}", path.read_bytes())

    def _files(self) -> dict[str, bytes]:
        if self._storage is None:
            links = (path for path in self._root.parent.rglob("*") if path.is_file() and not path.is_symlink())
            return {str(path.relative_to(self._root.parent)): path.read_bytes() for path in links}
        return {uri: self._storage.read_bytes(uri) for uri in self._storage.walk(self.uri)}

    def contents(self) -> set[str]:
        """Hashes of all files that are called as videos and not cut or empty, wherever they lie."""
        return {hashlib.sha256(data).hexdigest() for data in self._files().values() if b"ftyp" in data[:12]}

    def listed(self) -> dict[str, str]:
        """The sha256 of each clip that is listed in a part, and whose file is there as recorded."""
        found = {}
        for part in sorted(self._root.glob("data/part-?????")) if self._storage is None else ():
            try:
                rows = pq.read_table(part / "metadata.parquet", columns=["clip_id", "file_name", "sha256"]).to_pylist()
            except Exception:  # noqa: BLE001, S112 - of a damage
                continue
            for row in rows:
                path = part / str(row["file_name"])
                if is_clip_id(row["clip_id"]) and path.is_file():
                    content = hashlib.sha256(path.read_bytes()).hexdigest()
                    if content == row["sha256"]:
                        found[row["clip_id"]] = content
        return found
