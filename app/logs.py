"""Logs: one line an event, text or JSON, and no secret in any of them."""

import json
import logging
import re
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Final

from pythonjsonlogger.json import JsonFormatter

request_id: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
job_id: Final[ContextVar[str | None]] = ContextVar("job_id", default=None)
"""What the request or the loop's work that logs is about; lines carry both."""
is_broken_off: Final[ContextVar[bool]] = ContextVar("is_broken_off", default=False)
"""The request's answer was cut short, and by us or with a line of our own: uvicorn's ERROR about it is left out."""

_ABOUT: Final = {"request_id": request_id, "job_id": job_id}
_CALLER_KEY: Final = re.compile(r"fg_[A-Za-z0-9]{8,}")
_TOKEN: Final = re.compile(r"ft_[A-Za-z0-9_-]{20,}")
_FAL_WEBHOOK: Final = re.compile(r"(webhooks(?:/|%2F)fal(?:/|%2F))[0-9a-f]{8,}", re.IGNORECASE)
_FIELDS: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"


class _Text(logging.Formatter):
    """A line for people, with the ids that its message does not name already."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        line = super().formatMessage(record)
        ids = [str(vars(record)[name]) for name in _ABOUT if name in vars(record)]
        told = [text for text in ids if text not in line]
        return f"{line} ({' '.join(told)})" if told else line


class _NoSecrets(logging.Formatter):
    """Formats as another formatter does, then takes out every secret, in tracebacks as well."""

    def __init__(self, inner: logging.Formatter, secrets: Iterable[str]) -> None:
        super().__init__()
        self._inner = inner
        spelled = {text for secret in secrets if secret for text in (secret, json.dumps(secret)[1:-1])}
        self._secrets = sorted(spelled, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        for name, about in _ABOUT.items():
            current = about.get()
            if current and not hasattr(record, name):
                setattr(record, name, current)
        line = self._inner.format(record)
        for secret in self._secrets:
            line = line.replace(secret, "[secret]")
        line = _TOKEN.sub("ft_[secret]", _CALLER_KEY.sub("fg_[secret]", line))
        return _FAL_WEBHOOK.sub(r"\1[secret]", line)


def _is_news(record: logging.LogRecord) -> bool:
    return record.name != "uvicorn.error" or not is_broken_off.get()


def set_up_logs(*, level: str, layout: str, secrets: Iterable[str]) -> None:
    """Send the log of the whole process to stderr; `layout` is `text` or `json`."""
    inner = (
        JsonFormatter(_FIELDS, rename_fields={"asctime": "at", "levelname": "level", "name": "logger"})
        if layout == "json"
        else _Text("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_NoSecrets(inner, secrets))
    handler.addFilter(_is_news)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
