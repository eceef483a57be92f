"""The Authorization header: one, ours, or the one answer."""

import pytest
from pydantic import SecretStr

from app.accounts.callers import KeyUnknown, RoleForbidden, credentials, is_admin_key
from app.accounts.key_secrets import hash_of, new_secret

from .office import ADMIN_SECRET

SECRET = new_secret().encode()
ADMIN_KEY = SecretStr(ADMIN_SECRET)


def authorization(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"gateway"), *((b"authorization", value) for value in values), (b"accept", b"*/*")]


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"Key", b"key", b"kEY"])
def test_both_schemes_are_taken_in_any_case(scheme: bytes) -> None:
    assert credentials(authorization(scheme + b" " + SECRET), admin_key=None) == hash_of(SECRET)


@pytest.mark.parametrize(
    "values",
    [
        (),
        (b"",),
        (b"Bearer",),
        (b"Bearer ",),
        (SECRET,),
        (b"Basic " + SECRET,),
        (b"Bearer" + SECRET,),
        (b"Bearer\t" + SECRET,),
        (b"Bearer " + SECRET[:-1],),
        (b"Bearer " + SECRET + b"x",),
        (b"Bearer " + SECRET + b" " + SECRET,),
        (b"Bearer " + SECRET + b"," + SECRET,),
        (b"Bearer \xff\xfe",),
        (b"Key " + ADMIN_SECRET.encode(),),
        (b"Bearer " + ADMIN_SECRET.encode() + b"x",),
        (b"Bearer " + SECRET, b"Bearer " + SECRET),
        (b"Bearer " + SECRET, b"Key " + SECRET),
        (b"", b"Bearer " + SECRET),
        (b"Bearer " + ADMIN_SECRET.encode(), b"Bearer " + ADMIN_SECRET.encode()),
        (b"Bearer " + b"A" * 100_000,),
    ],
)
def test_anything_else_gets_the_one_answer(values: tuple[bytes, ...]) -> None:
    with pytest.raises(KeyUnknown) as refusal:
        credentials(authorization(*values), admin_key=ADMIN_KEY)
    assert (refusal.value.status, refusal.value.code) == (401, "key-unknown")
    assert refusal.value.headers == {"WWW-Authenticate": "Bearer"}
    assert not is_admin_key(authorization(*values), ADMIN_KEY)


def test_admin_key_is_no_user() -> None:
    headers = authorization(b"Bearer " + ADMIN_SECRET.encode())
    assert is_admin_key(headers, ADMIN_KEY)
    with pytest.raises(RoleForbidden, match="stands for no user"):
        credentials(headers, admin_key=ADMIN_KEY)


def test_without_an_admin_key_nothing_is_one() -> None:
    for value in (b"", b"Bearer ", b"Bearer None", b"Bearer " + ADMIN_SECRET.encode()):
        assert not is_admin_key(authorization(value), None)
