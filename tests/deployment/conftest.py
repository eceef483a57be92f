"""The same databases as the commands have."""

from tests.cli.conftest import empty_url

__all__ = ["empty_url"]
