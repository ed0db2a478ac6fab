"""Images with some of their bytes changed: `python -m benchmarks.mutated_images [--images 5000] [--seed 0]`.

Each must end as a picture or as an ImageError with a reason: no other exception, no crash, no endless work. Prints how
many ended how, by format, and the slowest; ends non-zero where one ended otherwise. The same seed makes the same files.
"""

import argparse
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from actors.errors import ImageError
from actors.images import decode
from benchmarks.image_table.pictures import Row
from benchmarks.image_table.rows import rows

# A picture of 64x48 pixels takes about a millisecond; one that claims all allowed megapixels, some tenths of a second.
_MOST_SECONDS = 10.0
_MEGAPIXELS = 4.0
# Of the table's files of a format; they are spread over it.
_FILES_PER_FORMAT = 40


@dataclass(frozen=True, slots=True)
class End:
    """How one file ended: `error` is what should not have been raised; `reason` is empty for a picture."""

    format: str
    seconds: float
    reason: str = ""
    error: str = ""


def ends(images: int, seed: int) -> Iterator[End]:
    """Make so many files, all formats in turn, and decode each."""
    rng = random.Random(seed)  # noqa: S311 - the same files again
    by_format: dict[str, list[Row]] = defaultdict(list)
    for row in rows():
        by_format[row.format].append(row)
    samples = {name: found[:: max(1, len(found) // _FILES_PER_FORMAT)] for name, found in by_format.items()}
    names = sorted(samples)
    for number in range(images):
        name = names[number % len(names)]
        other = rng.choice(samples[rng.choice(names) if rng.random() < 0.1 else name]).data
        mutate = rng.choice(_MUTATIONS)
        yield _end(name, mutate(rng.choice(samples[name]).data, other, rng))


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found = list(ends(arguments.images, arguments.seed))
    table = Table("format", "files", "pictures", "refused with a reason", "anything else", "slowest, s")
    for name, number in sorted(Counter(end.format for end in found).items()):
        mine = [end for end in found if end.format == name]
        refused, wrong = sum(bool(end.reason) for end in mine), sum(bool(end.error) for end in mine)
        slowest = max(end.seconds for end in mine)
        table.add_row(name, str(number), str(number - refused - wrong), str(refused), str(wrong), f"{slowest:.2f}")
    Console().print(table)
    wrong_ends = [end for end in found if end.error or end.seconds > _MOST_SECONDS]
    for end in wrong_ends:
        print(end)
    print(f"{len(found)} files, {len(wrong_ends)} that ended otherwise")
    sys.exit(bool(wrong_ends))


def _end(name: str, data: bytes) -> End:
    start = time.perf_counter()
    reason = error = ""
    try:
        decode(data, max_megapixels=_MEGAPIXELS)
    except ImageError as refusal:
        reason = str(refusal)
        error = "" if reason and reason.isprintable() else f"no reason: {reason!r}"
    except Exception as bug:  # noqa: BLE001 - what is looked for
        error = f"{type(bug).__name__}: {bug}"
    return End(name, time.perf_counter() - start, reason, error)


# --- Mutations: (file, another one, rng) -> changed file --------------------------------------------------------------

Mutation = Callable[[bytes, bytes, random.Random], bytes]


def _place(data: bytes, rng: random.Random) -> int:
    """Half of the time near the beginning or the end, where headers and directories are."""
    near = min(len(data), 300)
    return rng.choice(
        [rng.randrange(len(data)), rng.randrange(len(data)), rng.randrange(near), -rng.randrange(near) - 1]
    )


def _flip_bits(data: bytes, _other: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        changed[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _extreme_bytes(data: bytes, _other: bytes, rng: random.Random) -> bytes:
    """Numbers that are the smallest or the largest of their size."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 2, 3])):
        at, value = (
            _place(data, rng) % len(data),
            rng.choice([b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff" * 4, b"\0\0\0\1"]),
        )
        changed[at : at + len(value)] = value
    return bytes(changed)


def _cut(data: bytes, _other: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, len(data))]


def _lose(data: bytes, _other: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng) % len(data)
    return data[:at] + data[at + rng.choice([1, 2, 7, 100]) :]


def _splice(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The beginning of one and the end of another."""
    return data[: _place(data, rng) % len(data)] + other[_place(other, rng) % len(other) :]


def _repeat(data: bytes, _other: bytes, rng: random.Random) -> bytes:
    start = _place(data, rng) % len(data)
    return data[:start] + data[start : start + 64] * rng.choice([2, 3, 50]) + data[start + 64 :]


_MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _flip_bits,
    _extreme_bytes,
    _extreme_bytes,
    _cut,
    _lose,
    _splice,
    _repeat,
)


if __name__ == "__main__":
    main()
