"""Which URLs may be asked for, and which addresses may be called."""

from ipaddress import ip_address

import pytest

from app.outward.addresses import may_call
from app.outward.targets import parse_target, refusal_of, target_of

PRIVATE = [
    "127.0.0.1", "127.255.0.9", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "198.18.0.1", "192.0.0.8", "192.88.99.1", "192.0.2.1", "203.0.113.9", "::1", "fc00::1", "fd12:3456::1",
    "fec0::1", "2001:db8::1", "3fff::1", "100::1", "4000::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
    "::ffff:0:10.0.0.1", "64:ff9b::10.0.0.1", "2002:7f00:1::", "2002:0a00:0001::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
]  # fmt: skip
NEVER = [
    "169.254.169.254", "169.254.0.1", "0" + ".0" * 3, "0.1.2.3", "::", "fe80::1", "fe80::1%1", "febf::1",
    "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "224.0.0.1", "ff02::1",
    "240.0.0.1", "255.255.255.255", "::ffff:169.254.169.254", "::169.254.169.254", "::ffff:0:169.254.169.254",
    "64:ff9b::169.254.169.254", "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00:808:808",
    "2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:5601:5601",
]  # fmt: skip
PUBLIC = ["93.184.216.34", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]

REFUSED = {
    "": "absolute https",
    "/hook": "absolute https",
    "example.com/hook": "absolute https",
    "//example.com/hook": "absolute https",
    "https://": "absolute https",
    "https:///hook": "absolute https",
    "https:example.com": "absolute https",
    "ftp://example.com/": "absolute https",
    "file:///etc/passwd": "absolute https",
    "http://example.com/": "an https URL",
    "HTTP://example.com/": "an https URL",
    "https://ann:pw@example.com/": "credentials",
    "https://ann@example.com/": "credentials",
    "https://example.com@127.0.0.1/": "credentials",
    "https://example.com/#x": "fragment",
    "https://example.com#@127.0.0.1/": "fragment",
    "https://example.com\\@127.0.0.1/": "ASCII characters",
    "https://example.com/a b": "ASCII characters",
    "https://example.com/\n": "ASCII characters",
    "https://exa\tmple.com/": "ASCII characters",
    " https://example.com/": "ASCII characters",
    "https://example.com/\0": "ASCII characters",
    "https://bücher.example/": "ASCII characters",
    "https://127。0。0。1/": "ASCII characters",
    "https://①②⑦.0.0.1/": "ASCII characters",
    "https://example.com:0/": "a port from 1",
    "https://example.com:65536/": "a port from 1",
    "https://example.com:99999999/": "a port only as digits",
    "https://example.com:-1/": "a port only as digits",
    "https://example.com:https/": "a port only as digits",
    "https://example.com:/": "a port only as digits",
    "https://%31%32%37.0.0.1/": "name a host",
    "https://.example.com/": "name a host",
    "https://example..com/": "name a host",
    "https://example.com../": "name a host",
    "https://-example.com/": "name a host",
    f"https://{'a' * 64}.com/": "name a host",
    f"https://{'a.' * 127}com/": "name a host",
    "https://2130706433/": "four decimal numbers",
    "https://0x7f000001/": "four decimal numbers",
    "https://0x7f.1/": "four decimal numbers",
    "https://0X7F.0.0.1/": "four decimal numbers",
    "https://0177.0.0.1/": "four decimal numbers",
    "https://017700000001/": "four decimal numbers",
    "https://127.1/": "four decimal numbers",
    "https://127.0.0.1.5/": "four decimal numbers",
    "https://127.0.0.0x1/": "four decimal numbers",
    "https://256.0.0.1/": "four decimal numbers",
    "https://[fe80::1%25eth0]/": "name a host",
    "https://[::1/": "name a host",
    "https://[::g]/": "name a host",
    "https://[v1.x]/": "name a host",
    "https://[127.0.0.1]/": "no IPv6 address",
    "https://127.0.0.1/": "public address",
    "https://127.0.0.1./": "public address",
    "https://LOCALHOST/": "public address",
    "https://localhost.:8443/": "public address",
    "https://a.localhost/": "public address",
    "https://[::1]:8443/": "public address",
    "https://[::ffff:7f00:1]/": "public address",
    "https://169.254.169.254/latest/meta-data/": "public address",
    "https://example.com/" + "x" * 2000: "2000 characters",
}


@pytest.mark.parametrize("url", list(REFUSED))
def test_a_url_that_cannot_be_a_webhook_is_refused_in_words(url: str) -> None:
    refusal = refusal_of(url, allow_private=False)
    assert refusal is not None
    assert refusal.startswith("must ")
    assert REFUSED[url] in refusal


@pytest.mark.parametrize(
    ("url", "host", "name", "host_header", "path"),
    [
        ("https://example.com", "example.com", "example.com:443", "example.com", "/"),
        ("HTTPS://EXAMPLE.com.:443/A?b=%2F/..&c", "example.com", "example.com:443", "example.com", "/A?b=%2F/..&c"),
        ("https://example.com:8443?x", "example.com", "example.com:8443", "example.com:8443", "/?x"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", "xn--bcher-kva.example:443",
         "xn--bcher-kva.example", "/"),
        ("https://8.8.8.8:444/", "8.8.8.8", "8.8.8.8:444", "8.8.8.8:444", "/"),
        ("https://[2606:4700:0::1111]/", "2606:4700::1111", "[2606:4700::1111]:443", "[2606:4700::1111]", "/"),
        ("https://hooks_1.example.com/", "hooks_1.example.com", "hooks_1.example.com:443", "hooks_1.example.com", "/"),
    ],
)  # fmt: skip
def test_a_public_url_is_read_as_it_will_be_called(url: str, host: str, name: str, host_header: str, path: str) -> None:
    assert refusal_of(url, allow_private=False) is None
    target = parse_target(url)
    assert (target.host, target.name, target.host_header, target.path) == (host, name, host_header, path)
    assert target_of(url) == name


def test_http_and_a_private_host_need_the_setting_and_metadata_never_goes() -> None:
    for url in ("http://127.0.0.1:9/", "http://hooks.internal/", "https://[fd12::1]/", "http://localhost/"):
        assert refusal_of(url, allow_private=True) is None
    for url in ("http://169.254.169.254/", "http://[fe80::1]/", "http://[fd00:ec2::254]/", "http://2852039166/"):
        assert refusal_of(url, allow_private=True) is not None


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_called_only_by_the_setting(address: str) -> None:
    assert not may_call(ip_address(address), allow_private=False)
    assert may_call(ip_address(address), allow_private=True)


@pytest.mark.parametrize("address", NEVER)
def test_metadata_and_link_local_are_never_called(address: str) -> None:
    assert not may_call(ip_address(address), allow_private=False)
    assert not may_call(ip_address(address), allow_private=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_called(address: str) -> None:
    assert may_call(ip_address(address), allow_private=False)


def test_a_text_that_is_no_url_is_a_target_of_its_own() -> None:
    assert target_of("not a url") == "not a url"
