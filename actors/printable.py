"""Text as a terminal may show it: names and values of a manifest may hold what a terminal obeys.

This is the one place for it. Errors pass it as they are made, log lines as they are formatted, and what commands print
as it is printed (`pipelines.driver.screen`).
"""


def printable(text: str, keep: str = "") -> str:
    r"""The text with escapes in place of what is not to be shown as it is: `\x1b` for an ESC.

    That are control characters, line ends, marks that turn the direction of writing, odd blanks, and halves of
    characters. Text that has passed is not changed again. `keep` are characters that stay.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _escape(one) for one in text)


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")
