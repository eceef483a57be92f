"""The values of a statement that is put together piece by piece."""

from typing import Any


class Values(list[Any]):
    """Those after the first `taken`, which whoever executes it gives."""

    def __init__(self, taken: int = 0) -> None:
        super().__init__()
        self._taken = taken

    def put(self, value: Any) -> str:
        """The placeholder of one more."""
        self.append(value)
        return f"${self._taken + len(self)}"
