"""The members of a tar as samples, as WebDataset has them: `000.jpg`, `000.txt` and `000.json` are one sample.

A name up to the first dot after its last slash is the sample's key, what follows says what the member is. Members of a
sample stand one after the other.
"""

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from actors.embedded_tar import BLOCK_BYTES, open_tar
from actors.errors import ManifestError
from pipelines.manifest.opening import one_line

_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar.

    Attributes:
        name: as it stands there.
        block: of 512 bytes, at which its header begins.
        text: what was read of it.
        sha256: of its bytes, where it was hashed.
    """

    name: str
    block: int
    text: str | None = None
    sha256: str | None = None


@dataclass(slots=True)
class Sample:
    """The members of one key, by what follows it in their names (in lower case)."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)


def samples(
    uri: str,
    stream: "io.BufferedReader[Any]",
    *,
    reads: Callable[[str, int], bool],
    hashes: Callable[[str], bool],
    passes: Callable[[str], None],
) -> Iterator[Sample]:
    """The samples of a tar, read forwards; what is not read is seeked over.

    Args:
        stream: at its start.
        reads: whether a member's text is wanted, by what it is and its bytes.
        hashes: whether its hash is, by what it is.
        passes: told why a member is of no sample.

    Raises:
        ManifestError: the tar is damaged.
    """
    sample: Sample | None = None
    try:
        with open_tar(stream) as tar:
            while (found := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined] # it would keep all of them
                if (name := _NAME.fullmatch(found.name)) is None or not found.isfile():
                    if not found.isdir():
                        passes("hidden or without an ending" if found.isfile() else "links")
                    continue
                what = name[2].lower()
                if sample is None or name[1] != sample.key or what in sample.members:
                    if sample is not None:
                        yield sample
                    sample = Sample(name[1])
                text = _data(tar, found).decode("utf-8", "replace") if reads(what, found.size) else None
                sha256 = hashlib.sha256(_data(tar, found)).hexdigest() if hashes(what) else None
                sample.members[what] = Member(found.name, found.offset // BLOCK_BYTES, text, sha256)
            _check_end(stream, tar.offset)
    except tarfile.TarError as error:
        raise ManifestError(f"{uri} is not a whole tar file, though named so ({one_line(str(error))})") from error
    if sample is not None:
        yield sample


def _data(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = tar.extractfile(member)
    assert opened is not None, member.name  # of a file there is something to read
    return opened.read()


def _check_end(stream: "io.BufferedReader[Any]", offset: int) -> None:
    """Raise TarError where the reader took damage for the end: there only zeros are, or the file ends."""
    stream.seek(offset)
    block = stream.read(BLOCK_BYTES)
    if block.strip(b"\0"):
        raise tarfile.ReadError(f"damaged at byte {offset:,}")
