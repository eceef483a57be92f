"""Others' texts in a terminal: names, notes, tags."""


def printable(text: str) -> str:
    """Nothing that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
