"""JSON as a manifest: a list of objects, or of URIs; or objects one after the other, as in JSON lines.

Column types are those of `json_lines`. An entry is read as a whole, the list is not.
"""

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from actors.errors import ManifestError
from pipelines.manifest.files import URI_COLUMN
from pipelines.manifest.json_lines import JsonLinesManifest
from pipelines.manifest.opening import text_lines

# Read at once, and doubled while one entry is longer; then it is no entry.
_CHARACTERS = 2**20
_ENTRY_CHARACTERS = 256 * 2**20
# A literal or an escape that the end of what was read cuts off is a fault that more text may mend.
_CUT_OFF = 16
_DECODER = json.JSONDecoder()


class JsonManifest(JsonLinesManifest):
    """A `.json` file."""

    def _rows(self) -> Iterator[tuple[int, Mapping[str, Any], int]]:
        """The number of each entry, its object, and its length."""
        first: Mapping[str, Any] = {}
        number, is_list = 0, True
        with text_lines(self._storage, self.uri) as text:
            entries = _Entries(self.uri, text)
            is_list = entries.is_list
            for number, (entry, length) in enumerate(entries, 1):
                row = {URI_COLUMN: entry} if isinstance(entry, str) else entry
                if not isinstance(row, dict):
                    raise ManifestError(f"{self.uri}, entry {number} is not a JSON object: {str(entry)[:60]}")
                if number == 1 and not is_list:
                    first = row  # not yet: it may be the only one
                    continue
                if number == 2 and not is_list:  # noqa: PLR2004
                    yield 1, first, length
                yield number, row, length
        if number == 1 and not is_list:
            if lists := [key for key, value in first.items() if isinstance(value, list | dict)]:
                raise ManifestError(
                    f"{self.uri} is one JSON object and no list of images: write the entries of {lists[0][:60]!r}, or "
                    "what else describes the images, as one object a line (.jsonl)"
                )
            yield 1, first, 1


class _Entries:
    """The values of a JSON list, or values one after the other, each with its length in characters."""

    def __init__(self, uri: str, text: io.TextIOWrapper) -> None:
        self._uri, self._text = uri, text
        self._buffer, self._at, self._is_over = "", 0, False
        self._skip_blanks()
        self.is_list = self._buffer[self._at : self._at + 1] == "["
        if self.is_list:
            self._at += 1

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        number = 0
        while self._begins_entry(number):
            number += 1
            start = self._at
            entry, end = self._entry(number)
            self._at = end
            yield entry, end - start

    def _begins_entry(self, number: int) -> bool:
        """Go to the next entry; False where there is none."""
        letter = self._skip_blanks()
        if not self.is_list:
            return letter != ""
        if letter == "," and number:
            self._at += 1
            self._skip_blanks()
            return True
        if letter == "]":
            self._at += 1
            if self._skip_blanks():
                raise self._fault(number, "there is more after the list")
            return False
        if letter and not number:
            return True
        raise self._fault(number, "the list is not closed" if not letter else "a comma is missing after it")

    def _entry(self, number: int) -> tuple[Any, int]:
        while True:
            try:
                entry, end = _DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                is_cut_off = error.msg.startswith("Unterminated") or error.pos > len(self._buffer) - _CUT_OFF
                if is_cut_off and self._read_more():
                    continue
                raise self._fault(number, error.msg) from error
            except (ValueError, RecursionError) as error:  # a number of 5,000 digits, a thousand brackets
                raise self._fault(number, str(error)) from error
            if end == len(self._buffer) and self._read_more():  # a number may go on
                continue
            return entry, end

    def _skip_blanks(self) -> str:
        """Go to the next character that is none, and give it; "" at the end."""
        while True:
            while self._at < len(self._buffer):
                if not (letter := self._buffer[self._at]).isspace():
                    return letter
                self._at += 1
            if not self._read_more():
                return ""

    def _read_more(self) -> bool:
        """Forget what was used, and read as much as is there still; False where nothing comes."""
        self._buffer, self._at = self._buffer[self._at :], 0
        if len(self._buffer) > _ENTRY_CHARACTERS:
            raise ManifestError(
                f"{self._uri}: an entry has more than {_ENTRY_CHARACTERS:,} characters: write one object an image"
            )
        more = self._text.read(max(_CHARACTERS, len(self._buffer)))
        self._buffer += more
        return more != ""

    def _fault(self, number: int, said: str) -> ManifestError:
        where = f", entry {number}" if number else ""
        return ManifestError(f"{self._uri}{where} is not JSON: {said}")
