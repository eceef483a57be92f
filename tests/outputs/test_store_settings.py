"""OUTPUT_STORE and the keys of its bucket, before anything is asked of it."""

import pytest

from app.output_store import open_store
from app.settings import SettingsError
from tests.conftest import settings_for

from .bucket import KEY, KEY_ID
from .test_store import NOWHERE


@pytest.mark.parametrize(
    "place",
    ["kept-here", "./kept-here", "s3://", "s3://B", "s3://b/../c", "s3://videos?x=1", "gs://videos", "s3://k:s@videos"],
)
def test_what_is_neither_a_folder_nor_a_bucket_is_refused(place: str) -> None:
    with pytest.raises(SettingsError, match=r"^OUTPUT_STORE must [^\n]*\.$") as refused:
        settings_for(NOWHERE, OUTPUT_STORE=place)
    assert place not in str(refused.value).replace("s3://bucket", "")


def test_half_a_key_of_a_bucket_is_refused() -> None:
    with pytest.raises(SettingsError, match="go together"):
        settings_for(NOWHERE, OUTPUT_STORE="s3://videos", AWS_ACCESS_KEY_ID=KEY_ID)


def test_the_keys_of_a_bucket_are_secrets() -> None:
    settings = settings_for(NOWHERE, AWS_ACCESS_KEY_ID=KEY_ID, AWS_SECRET_ACCESS_KEY=KEY, AWS_SESSION_TOKEN="token-1")
    assert {KEY, "token-1"} <= set(settings.secrets)
    assert KEY not in repr(settings)


def test_what_compose_hands_on_empty_is_not_taken_for_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.setenv(name, "")
    assert repr(open_store(settings_for(NOWHERE, OUTPUT_STORE="s3://videos"))) == "OutputStore('s3://videos')"
