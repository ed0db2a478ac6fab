"""Numbers of things, as a sentence says them."""


def counted(number: float, thing: str, things: str = "") -> str:
    """`1 row`, `0 rows`, `1,200 rows`; `things` where that is not `thing` and an s."""
    amount = f"{number:,}" if isinstance(number, int) else f"{number:,g}"
    return f"{amount} {thing if number == 1 else things or thing + 's'}"


def times(number: int) -> str:
    """`once`, `2 times`."""
    return "once" if number == 1 else f"{number:,} times"


def file_size(number: int) -> str:
    """Bytes in the unit that fits, of a thousand each: `0 bytes`, `12.3 kB`, `4.5 GB`."""
    if number < 1000:  # noqa: PLR2004 - the next unit
        return counted(number, "byte")
    size, units = number / 1000, ["TB", "GB", "MB", "kB"]
    while round(size, 1) >= 1000 and len(units) > 1:  # noqa: PLR2004 - the next unit
        size /= 1000
        units.pop()
    return f"{size:,.1f} {units[-1]}"
