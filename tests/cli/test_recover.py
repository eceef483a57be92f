"""`falgate recover`: what was still to be sent is unconfirmed; said in words, and not beside a `serve`."""

from pathlib import Path

import httpx

from tests.cli.commands import Serving, falgate, installed, real, serving
from tests.cli.test_serve import make_key
from tests.conftest import FAL_KEY
from tests.embedded.owners import query

STATUSES = "SELECT j.status, a.outcome FROM jobs j LEFT JOIN attempts a ON a.id = j.attempt_id"


def submit(gateway: Serving) -> None:
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) as http:
        headers = make_key(http)
        assert http.post("/v1/text-to-video", json={"prompt": "a boat"}, headers=headers).status_code == 202


def test_it_says_what_it_did_and_serve_warns_of_another_key(database_url: str, tmp_path: Path) -> None:
    settings = real(database_url, FAL_QUEUE_URL="http://127.0.0.1:1", FAL_API_URL="http://127.0.0.1:1")
    nothing = falgate("recover", folder=tmp_path, **settings)
    assert (nothing.code, nothing.err) == (0, "")
    assert nothing.out.startswith("Nothing to do")
    with serving(folder=tmp_path, **settings) as gateway:
        assert "another FAL_KEY" not in gateway.log
        submit(gateway)
        refused = falgate("recover", folder=tmp_path, **settings)
        assert refused.code != 0
        assert "end it first" in refused.err
        assert len(refused.err.splitlines()) == 1
    query(database_url, "UPDATE jobs SET status = 'queued', attempt_id = NULL")
    done = falgate("recover", folder=tmp_path, **settings)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("1 jobs are unconfirmed now (1 were queued, 0 submitting, 0 unconfirmed already).")
    assert "in 140 minutes are sent again" in done.out
    assert FAL_KEY not in done.out
    assert query(database_url, STATUSES) == [("unconfirmed", "recovered")]
    again = installed("recover", folder=tmp_path, **settings)
    assert again.out.startswith("1 jobs are unconfirmed now (0 were queued, 0 submitting, 1 unconfirmed already).")
    assert falgate("audit", folder=tmp_path, **settings).out == "the ledger agrees\n"
    with serving(folder=tmp_path, **(settings | {"FAL_KEY": "other-id:other-secret"})) as gateway:
        assert gateway.log.count("1 jobs in flight were sent with another FAL_KEY") == 1
        assert "other-secret" not in gateway.log


def test_an_empty_database_is_one_sentence(empty_url: str, tmp_path: Path) -> None:
    done = falgate("recover", folder=tmp_path, **real(empty_url))
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
