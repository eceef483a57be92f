"""Which of two sources wins, and which URLs are taken."""

from pathlib import Path

import pytest

from app.fal.paths import FalUrl
from app.settings import Settings, SettingsError, load_settings
from tests.conftest import FAL_KEY

DATABASE_URL = "postgresql://localhost/falgate"


def load(folder: Path, written: str, **environ: str) -> Settings:
    """Settings of this environment, and of a `.env` that says this."""
    (folder / ".env").write_text(written)
    return load_settings({"DATABASE_URL": DATABASE_URL, **environ}, env_file=folder / ".env")


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """The path of a file that holds a key."""
    (tmp_path / "secret").write_text("from:file\n")
    return str(tmp_path / "secret")


def test_the_environment_wins_over_the_env_file_also_by_a_file(secret: str, tmp_path: Path) -> None:
    settings = load(tmp_path, "FAL_KEY=from:dotenv\n", FAL_KEY_FILE=secret)
    assert settings.fal_key.get_secret_value() == "from:file"


def test_a_file_of_the_env_file_is_not_read_when_the_environment_decides(tmp_path: Path) -> None:
    settings = load(tmp_path, "FAL_KEY_FILE=/not/there\n", FAL_KEY=FAL_KEY)
    assert settings.fal_key.get_secret_value() == FAL_KEY


def test_a_value_and_a_file_in_one_source_are_refused(secret: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^FAL_KEY and FAL_KEY_FILE are both set: leave one of them out\.$"):
        load(tmp_path, "", FAL_KEY="from:value", FAL_KEY_FILE=secret)
    with pytest.raises(SettingsError, match="ADMIN_KEY and ADMIN_KEY_FILE are both set"):
        load(tmp_path, f"ADMIN_KEY={'a' * 24}\nADMIN_KEY_FILE={secret}\n", FAL_KEY=FAL_KEY)


@pytest.mark.parametrize("origins", ["*", "https://a.example, http://localhost:3000", "http://[::1]:8080"])
def test_origins_are_taken_as_browsers_send_them(origins: str, tmp_path: Path) -> None:
    settings = load(tmp_path, "", FAL_KEY=FAL_KEY, CORS_ORIGINS=origins)
    assert ", ".join(settings.cors_origins) == origins


@pytest.mark.parametrize("origins", ["a.example", "https://a.example/", "https://A.example", "https://*.a.example"])
def test_an_origin_that_would_never_match_is_refused(origins: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^CORS_ORIGINS must be origins in lower case [^\n]+\.$"):
        load(tmp_path, "", FAL_KEY=FAL_KEY, CORS_ORIGINS=f"https://b.example,{origins}")


@pytest.mark.parametrize("proxies", ["*", "127.0.0.1", "172.16.0.0/12, ::1,fd00::/8"])
def test_proxies_are_taken_by_their_addresses(proxies: str, tmp_path: Path) -> None:
    assert load(tmp_path, "", FAL_KEY=FAL_KEY, FORWARDED_ALLOW_IPS=proxies).forwarded_allow_ips == proxies


@pytest.mark.parametrize("proxies", ["nginx", "10.0.0.1/8", "127.0.0.1,", "*,127.0.0.1", "1.2.3.999", "10.0.0.0/33"])
def test_a_proxy_that_could_never_match_is_refused(proxies: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^FORWARDED_ALLOW_IPS must be addresses and networks [^\n]+ alone\.$"):
        load(tmp_path, "", FAL_KEY=FAL_KEY, FORWARDED_ALLOW_IPS=proxies)


def test_a_name_in_lower_case_is_no_setting(tmp_path: Path) -> None:
    assert load(tmp_path, "", FAL_KEY=FAL_KEY, port="1", host="elsewhere") == load(tmp_path, "", FAL_KEY=FAL_KEY)


@pytest.mark.parametrize(
    "url",
    [
        "http://a b", "http://h:abc", "http://*", "http://h:99999", "http://h:0", "http://[::1", "http://[x]",
        "http://1.2.3.999", "http://h/a b", "http://h/\u00e4", "http://\u00e4", "http://h?", "http://h#", "http://@h",
        "http://a:b@h", "ftp://h", "h", "http://", "http:/h", "http://h\n", " http://h", "http://h\\x",
        f"http://h/{'x' * 2000}",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_called_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="FAL_QUEUE_URL must be an http"):
        load(tmp_path, "", FAL_KEY=FAL_KEY, FAL_QUEUE_URL=url)


@pytest.mark.parametrize(
    "url",
    [
        "https://queue.fal.run",
        "http://127.0.0.1:8000/",
        "http://[::1]:80/fal",
        "HTTP://Fal_1.example/a%20b/~c",
        "http://h:",
    ],
)
def test_what_is_taken_can_be_called(url: str, tmp_path: Path) -> None:
    taken = load(tmp_path, "", FAL_KEY=FAL_KEY, FAL_QUEUE_URL=url).fal_queue_url
    assert str(FalUrl(taken))
