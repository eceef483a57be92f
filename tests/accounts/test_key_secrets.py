"""The form of a secret: what is not ours is refused without asking the database."""

import hashlib
import re
import string

import pytest

from app.accounts.key_secrets import hash_of, new_secret, shown_prefix

LETTERS = string.ascii_letters + string.digits


def test_a_secret_is_selected_by_one_double_click() -> None:
    assert re.fullmatch(r"fg_[A-Za-z0-9]{43}[A-Za-z0-9]{6}", new_secret())


def test_a_secret_is_known_by_the_sha_256_of_all_of_it() -> None:
    secret = new_secret()
    assert hash_of(secret) == hash_of(secret.encode()) == hashlib.sha256(secret.encode()).digest()


def test_no_two_secrets_are_alike() -> None:
    assert len({new_secret() for _ in range(200)}) == 200


def test_the_checksum_rejects_every_change_of_one_character() -> None:
    secret = new_secret()
    for place in range(len(secret)):
        for letter in LETTERS + "_-é\0 ":
            changed = secret[:place] + letter + secret[place + 1 :]
            assert changed == secret or hash_of(changed) is None


def test_the_checksum_rejects_every_swap_of_two_neighbours() -> None:
    secret = new_secret()
    for place in range(len(secret) - 1):
        changed = secret[:place] + secret[place + 1] + secret[place] + secret[place + 2 :]
        assert changed == secret or hash_of(changed) is None


@pytest.mark.parametrize("text", ["", "fg_", "fg_" + "0" * 49, "fg_" + "é" * 49, "\ud800" * 52, "x" * 10_000])
def test_what_has_not_our_form_has_no_hash(text: str) -> None:
    assert hash_of(text) is None


def test_a_secret_with_something_around_it_is_another() -> None:
    secret = new_secret()
    for text in (secret + " ", " " + secret, secret + "0", secret[:-1], secret.upper(), secret + "\n"):
        assert hash_of(text) is None


def test_a_prefix_tells_little() -> None:
    secret = new_secret()
    assert secret.startswith(shown_prefix(secret))
    assert len(shown_prefix(secret)) == 11
