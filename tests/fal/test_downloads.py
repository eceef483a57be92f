"""Whom a video may be fetched from: what DNS says is looked at before anything is connected."""

from collections.abc import Sequence

import pytest

from app.fal import Downloads, DownloadTrouble, trust

TLS = trust()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (["127.0.0.1"], "not public"),
        (["93.184.215.14", "10.0.0.1"], "not public"),
        (["169.254.169.254"], "not public"),
        (["::ffff:127.0.0.1"], "not public"),
        ([], "could not be resolved"),
    ],
)
async def test_a_name_is_as_good_as_the_worst_of_its_addresses(found: Sequence[str], said: str) -> None:
    asked: list[tuple[str, int]] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return found

    downloads = Downloads(fal_urls=["https://queue.fal.run"], tls=TLS, resolve=resolve)
    with pytest.raises(DownloadTrouble, match=said):
        await downloads.open("https://v3.fal.media/files/boat.mp4")
    assert asked == [("v3.fal.media", 443)]


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://v3.fal.media/a.mp4", True),
        ("http://127.0.0.1:8080/files/a.mp4", True),
        ("http://127.0.0.1:8081/files/a.mp4", False),
        ("https://127.0.0.1:8080/files/a.mp4", False),
        ("http://v3.fal.media/a.mp4", False),
        ("javascript:alert(1)", False),
        ("//v3.fal.media/a.mp4", False),
    ],
)
def test_a_caller_is_sent_only_where_we_would_go(url: str, may: bool) -> None:  # noqa: FBT001  a column
    assert Downloads(fal_urls=["http://127.0.0.1:8080"], tls=TLS).may_name(url) is may
