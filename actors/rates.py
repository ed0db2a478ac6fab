"""Frame rates: those that people write, those that a file can have, and what a clip's rate comes to."""

import re
from fractions import Fraction

# A number that is as near to one of these as this is taken for it: 29.97, 23.976023976 and 59.94006 are such.
_STANDARD = tuple(Fraction(thousands * 1000, 1001) for thousands in (24, 30, 48, 60, 120))
_NEARNESS = Fraction(1, 10_000)
# ffmpeg refuses clocks of more than 31 bits. With these bounds the numerator is a billion at most.
_MAX_DENOMINATOR = 100_000
SLOWEST, FASTEST = Fraction(1, 1000), Fraction(10_000)
# Longer ones are no numbers of people, and `1e999999999` would be a gigabyte.
_MAX_CHARACTERS = 50
_EXPECTED = "expected a number, or a fraction such as 30000/1001"
_LARGE_EXPONENT = re.compile(r"[eE][+-]?0*[1-9]\d{2,}")


def to_fraction(value: object) -> Fraction:
    """`25`, `2.5`, `"7/3"` or a Fraction, as a Fraction of a denominator that files can have.

    So `2.3333333333` becomes 7/3. Raises ValueError for what is no number.
    """
    if isinstance(value, bool) or not isinstance(value, Fraction | int | float | str):
        raise ValueError(_EXPECTED)  # noqa: TRY004 - pydantic reports no TypeError
    text = str(value).strip()
    if len(text) > _MAX_CHARACTERS or _LARGE_EXPONENT.search(text):
        raise ValueError(_EXPECTED)
    try:
        return Fraction(text).limit_denominator(_MAX_DENOMINATOR)
    except (ValueError, ZeroDivisionError):
        raise ValueError(_EXPECTED) from None


def to_rate(value: object) -> Fraction:
    """The same for a frame rate: near one of the standard ones (24000/1001, ...) it is that.

    Raises ValueError for what is no number, and for a rate that files cannot have.
    """
    rate = to_fraction(value)
    if not SLOWEST <= rate <= FASTEST:
        raise ValueError(f"expected a frame rate from {SLOWEST} to {FASTEST}")
    return next((one for one in _STANDARD if abs(rate - one) <= one * _NEARNESS), rate)


def rate_text(number: Fraction) -> str:
    """For people: `30000/1001 (29.97)`, `24`."""
    return str(number) if number.denominator == 1 else f"{number} ({float(number):.6g})"
