"""`content_url` of a Job: where its video is, by an address that whoever gets it can play for an hour."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from pydantic_core import to_json

from app.accounts.callers import Credential
from app.http import reached_at
from app.ids import show
from app.jobs.reads.wire import NO_CONTENT_URL
from app.tokens import Grant, Tokens

_GOOD_FOR: Final = timedelta(hours=1)


class Links:
    """Writes them; without SECRET_KEY they are plain addresses, which ask for a key."""

    def __init__(self, tokens: Tokens | None, *, public_url: str | None) -> None:
        self._tokens = tokens
        self._public_url = public_url

    def complete(self, body: str, job_id: UUID, credential: Credential, *, now: datetime) -> str:
        """A Job's JSON text, whose job has a video, with its `content_url` for whoever showed this credential."""
        base = self._public_url or reached_at()
        if base is None:
            return body
        url = f"{base}/v1/jobs/{show('job', job_id)}/content{self._query(job_id, credential, now)}"
        return body.removesuffix(NO_CONTENT_URL) + to_json(url).decode() + "}"

    def completing(self, credential: Credential, *, now: datetime) -> Callable[[str, UUID], str]:
        """`complete` for many jobs of one answer."""
        return lambda body, job_id: self.complete(body, job_id, credential, now=now)

    def _query(self, job_id: UUID, credential: Credential, now: datetime) -> str:
        if self._tokens is None:
            return ""
        expires_at = now.replace(second=0, microsecond=0) + _GOOD_FOR  # the same link to all who read in this minute
        if credential.grant is not None:
            expires_at = min(expires_at, credential.grant.expires_at)
        grant = Grant(scope="content", job_id=job_id, expires_at=expires_at)
        return f"?token={self._tokens.mint(credential.secret_hash, grant)}"
