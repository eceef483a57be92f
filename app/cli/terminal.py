"""Text for a terminal: columns, and nothing that it would obey, since names and notes are others' texts."""

from collections.abc import Collection, Sequence


def printable(text: str) -> str:
    """Whatever is no letter, figure, mark or space becomes a replacement character."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def widths_of(rows: Sequence[Sequence[str]]) -> list[int]:
    """How wide each column is."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def aligned(rows: Sequence[Sequence[str]], *, right: Collection[int], indent: str = "") -> list[str]:
    """A line for each row; the columns `right` end where they end, the others begin where they begin."""
    widths = widths_of(rows)
    return [
        indent
        + "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
