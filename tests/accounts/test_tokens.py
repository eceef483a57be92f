"""What a token carries, and that nobody but us can write one."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from app.accounts.callers import Credential, KeyUnknown, RoleForbidden, credentials, read_credential
from app.accounts.key_secrets import hash_of, new_secret
from app.settings import Settings
from app.tokens import Grant, Scope, TokenForbidden, Tokens, TokenUnknown
from tests.conftest import ADMIN_KEY, SECRET_KEY, settings_for

NOW = datetime(2026, 10, 1, 12, 0, 0, 123456, tzinfo=UTC)
SOON = NOW + timedelta(seconds=600)
JOB = uuid4()
HASH = bytes(range(32))
TOKENS = Tokens(SecretStr(SECRET_KEY))
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"


def grant(scope: Scope = "read", end_user: str | None = None, job_id: UUID | None = None) -> Grant:
    return Grant(scope=scope, expires_at=SOON, end_user=end_user, job_id=job_id)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return settings_for("postgresql://nobody@127.0.0.1/nothing")


def read(
    settings: Settings,
    token: str = "",
    *more: str,
    tokens: Tokens | None = TOKENS,
    job_id: UUID | None = None,
    in_query: str | None = None,
) -> Credential:
    headers = [(b"authorization", value.encode()) for value in (*([token] if token else []), *more)]
    return read_credential(headers, settings=settings, tokens=tokens, now=NOW, job_id=job_id, in_query=in_query)


@pytest.mark.parametrize("end_user", [None, "visitor 42", "ü" * 128, "\U0001f6a3" * 128])
@pytest.mark.parametrize("job_id", [None, JOB])
@pytest.mark.parametrize("scope", ["submit", "read"])
def test_a_token_says_what_it_was_made_with(scope: Scope, job_id: UUID | None, end_user: str | None) -> None:
    made = grant(scope, end_user, job_id)
    token = TOKENS.mint(HASH, made)
    assert token.startswith("ft_")
    assert token.isascii()
    assert TOKENS.read(token, now=NOW) == (HASH, made)
    assert HASH.hex() not in token
    assert token not in repr(TOKENS) + repr(vars(TOKENS))


def test_a_token_changed_in_any_byte_opens_nothing(settings: Settings) -> None:
    token = TOKENS.mint(HASH, grant("submit", "visitor 42"))
    for place, letter in enumerate(token):
        for other in {*LETTERS, "=", ".", "+", "/", " ", "\n", "\0", "é"} - {letter}:
            changed = token[:place] + other + token[place + 1 :]
            with pytest.raises(TokenUnknown):
                TOKENS.read(changed, now=NOW)
        for changed in (token[:place], token[:place] + token[place + 1 :], token[:place] + "A" + token[place:]):
            with pytest.raises(TokenUnknown):
                TOKENS.read(changed, now=NOW)
        with pytest.raises((TokenUnknown, KeyUnknown)):
            read(settings, f"Bearer {token[:place]}{'B' if letter == 'A' else 'A'}{token[place + 1 :]}")
    for more in ("A", "=", "==", " ", "\n", ".", "A" * 10_000):
        with pytest.raises(TokenUnknown):
            TOKENS.read(token + more, now=NOW)


def test_a_token_is_over_at_its_moment() -> None:
    token = TOKENS.mint(HASH, grant())
    assert TOKENS.read(token, now=SOON - timedelta(microseconds=1))
    for now in (SOON, SOON + timedelta(days=1)):
        with pytest.raises(TokenUnknown):
            TOKENS.read(token, now=now)


def test_a_token_of_another_secret_key_opens_nothing() -> None:
    other = Tokens(SecretStr("another-secret-key-of-the-tests-00001"))
    with pytest.raises(TokenUnknown):
        TOKENS.read(other.mint(HASH, grant()), now=NOW)


def test_a_key_and_a_token_are_read_from_the_one_header(settings: Settings) -> None:
    secret = new_secret()
    for scheme in ("Bearer", "Key", "bearer"):
        assert read(settings, f"{scheme} {secret}") == read_credential(
            [(b"authorization", f"key {secret}".encode())], settings=settings, tokens=None, now=NOW
        )
        found = read(settings, f"{scheme} {TOKENS.mint(HASH, grant())}")
        assert (found.secret_hash, found.grant) == (HASH, grant())
    assert hash_of(secret) == read(settings, f"Key {secret}").secret_hash
    token = TOKENS.mint(HASH, grant())
    for values in ((f"Basic {token}",), (token,), (f"Bearer {token}", f"Bearer {token}"), ("Bearer ft",), ()):
        with pytest.raises(KeyUnknown):
            read(settings, *values)
    with pytest.raises(RoleForbidden):
        read(settings, f"Bearer {ADMIN_KEY}")
    with pytest.raises(TokenUnknown):
        read(settings, f"Bearer {token}", tokens=None)


def test_a_token_of_one_job_opens_no_route_of_another_or_of_none(settings: Settings) -> None:
    token = TOKENS.mint(HASH, grant(job_id=JOB))
    assert read(settings, f"Key {token}", job_id=JOB)
    for job_id in (None, uuid4()):
        with pytest.raises(TokenUnknown):
            read(settings, f"Key {token}", job_id=job_id)


def test_in_a_query_only_a_token_of_that_one_job_counts_and_before_any_header(settings: Settings) -> None:
    key = f"Bearer {new_secret()}"
    of_job, of_all = TOKENS.mint(HASH, grant(job_id=JOB)), TOKENS.mint(HASH, grant())
    assert read(settings, key, job_id=JOB, in_query=of_job) == read(settings, f"Key {of_job}", job_id=JOB)
    for job_id, in_query in ((JOB, of_all), (uuid4(), of_job), (None, of_job), (JOB, ""), (JOB, new_secret())):
        with pytest.raises(TokenUnknown):
            read(settings, key, job_id=job_id, in_query=in_query)
    with pytest.raises(TokenUnknown):
        read(settings, job_id=JOB, in_query=of_job, tokens=None)


def test_a_route_that_takes_no_tokens_says_so() -> None:
    token = TOKENS.mint(HASH, grant("submit"))
    with pytest.raises(TokenUnknown) as refusal:
        credentials([(b"authorization", f"Key {token}".encode())], admin_key=None)
    assert refusal.value.status == 401
    assert "no token opens this" in refusal.value.detail
    assert token not in refusal.value.detail


def test_a_grant_shows_what_is_its_own_alone() -> None:
    cases: list[tuple[Grant, bool, str | None, bool]] = [
        (grant(), True, None, True),
        (grant(), True, "x", True),
        (grant(), False, None, False),
        (grant(end_user="x"), True, "x", True),
        (grant(end_user="x"), True, "X", False),
        (grant(end_user="x"), True, None, False),
        (grant(job_id=JOB), True, None, True),
        (grant(job_id=JOB), False, None, False),
        (grant(job_id=uuid4()), True, None, False),
    ]
    for one, is_own, end_user, shown in cases:
        assert one.shows(JOB, is_own=is_own, end_user=end_user) is shown, one


def test_only_the_scope_submit_submits(settings: Settings) -> None:
    read(settings, f"Key {new_secret()}").require_submit()
    read(settings, f"Key {TOKENS.mint(HASH, grant('submit'))}").require_submit()
    with pytest.raises(TokenForbidden):
        read(settings, f"Key {TOKENS.mint(HASH, grant('read'))}").require_submit()
