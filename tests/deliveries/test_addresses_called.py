"""Whom we connect to: the address that was checked, whatever the name says next."""

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.deliveries.post import Post, Sending, Tried
from app.fal import trust
from app.outward.dns import resolve
from tests.deliveries.receiver import Receiver, receiving

TLS = trust()
NOT_ALLOWED = "the host leads to an address that webhooks may not go to"


class Names:
    """DNS as the owner of a name would like it: each question has its own answer."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = deque(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers.popleft()


async def post(url: str, names: Names, *, allow_private: bool = False, tls: ssl.SSLContext | None = None) -> Tried:
    sender = Post(allow_private=allow_private, tls=tls or TLS, resolve=names, try_seconds=3)
    return await sender.send(url, b"{}", {}, sending=Sending(), now=datetime.now(UTC))


async def test_a_name_that_leads_to_a_private_address_is_not_called(receiver: Receiver) -> None:
    for addresses in (
        ["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["169.254.169.254"], ["8.8.8.8", "127.0.0.1"],
        ["127.0.0.1", "8.8.8.8"], ["fe80::1%lo"], ["0.1.2.3"], ["10.0.0.1"],
    ):  # fmt: skip
        names = Names(addresses)
        tried = await post(f"https://hooks.test:{receiver.port}/", names)
        assert (tried.outcome, tried.error) == ("not_allowed", NOT_ALLOWED)
        assert names.asked == [("hooks.test", receiver.port)]
    assert receiver.connections == 0


async def test_with_private_ones_allowed_metadata_is_still_not_called() -> None:
    for addresses in (["169.254.169.254"], ["127.0.0.1", "169.254.169.254"], ["fd00:ec2::254"], ["fe80::1"]):
        assert (await post("http://hooks.test/", Names(addresses), allow_private=True)).outcome == "not_allowed"
    for url in ("http://169.254.169.254/", "http://[::ffff:a9fe:a9fe]/"):
        tried = await post(url, Names(), allow_private=True)
        assert (tried.outcome, tried.error) == ("not_allowed", "the URL must lead to a public address")


async def test_a_name_that_turns_to_us_after_it_was_checked_never_gets_a_connection(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was checked is what is called: nobody asks DNS a second time."""
    called: list[str] = []

    async def connect(_self: object, host: str, port: int, **_: object) -> None:
        called.append(f"{host} {port}")
        raise OSError

    names = Names(["93.184.216.34"], ["127.0.0.1"])
    with monkeypatch.context() as patched:
        patched.setattr("httpcore._backends.auto.AutoBackend.connect_tcp", connect)
        with pytest.raises(OSError, match=r"^$"):
            await post(f"https://hooks.test:{receiver.port}/", names)
    assert called == [f"93.184.216.34 {receiver.port}"]
    assert (await post(f"https://hooks.test:{receiver.port}/", names)).outcome == "not_allowed"
    assert receiver.connections == 0


async def test_a_url_accepted_under_other_settings_is_checked_again(receiver: Receiver) -> None:
    tried = await post(receiver.url, Names())
    assert (tried.outcome, tried.error) == ("not_allowed", "the URL must be an https URL")
    assert receiver.connections == 0


async def test_another_address_of_the_name_is_tried_when_one_is_not_reached(receiver: Receiver) -> None:
    url = f"http://hooks.test:{receiver.port}/"
    tried = await post(url, Names(["127.0.0.2", "127.0.0.1"]), allow_private=True)
    assert tried.outcome == "delivered"
    assert receiver.received[0].headers["host"] == f"hooks.test:{receiver.port}"
    refused = await post(url, Names(["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1"]), allow_private=True)
    assert (refused.outcome, refused.error) == ("unreachable", "no connection")


async def test_a_name_that_nobody_knows_and_one_that_nobody_answers_for() -> None:
    unknown = await post("https://hooks.test/", Names([]))
    assert (unknown.outcome, unknown.error) == ("unreachable", "the host's name could not be resolved")

    async def silent(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    sender = Post(allow_private=False, tls=TLS, resolve=silent, try_seconds=0.05)
    tried = await sender.send("https://hooks.test/", b"{}", {}, sending=Sending(), now=datetime.now(UTC))
    assert (tried.outcome, tried.error) == ("timeout", "no answer in time")


async def test_this_machines_own_resolver_is_asked_in_a_thread() -> None:
    assert await resolve("127.0.0.1", 80) == ["127.0.0.1"]
    assert await resolve("nowhere.invalid", 80) == []
    assert await resolve("a" * 70 + ".test", 80) == []


def certified(name: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for this name, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.now(UTC)
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    if name[0].isdigit():
        names = [x509.IPAddress(ip_address(name))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "both.pem").write_bytes(secret + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "both.pem")
    return server, ssl.create_default_context(cadata=pem.decode())


@pytest.mark.parametrize("name", ["hooks.test", "127.0.0.1"])
async def test_the_certificate_must_be_the_hosts_though_its_address_is_called(name: str, tmp_path: Path) -> None:
    server, client = certified(name, tmp_path)
    seen: list[str | None] = []
    server.sni_callback = lambda _socket, sni, _context: seen.append(sni)
    async with receiving(server) as receiver:
        url = f"https://{name.upper()}:{receiver.port}/"
        tried = await post(url, Names(["127.0.0.1"]), allow_private=True, tls=client)
        assert tried.outcome == "delivered"
        assert seen == ["hooks.test" if name == "hooks.test" else None]
        other = await post(f"https://other.test:{receiver.port}/", Names(["127.0.0.1"]), allow_private=True, tls=client)
        unknown = await post(url, Names(["127.0.0.1"]), allow_private=True)
        assert len(receiver.received) == 1
    for refused in (other, unknown):
        assert refused.error == "no connection: the certificate is not trusted, or not the host's"


async def test_a_receiver_without_tls_is_not_spoken_to_in_the_clear(receiver: Receiver) -> None:
    tried = await post(f"https://hooks.test:{receiver.port}/", Names(["127.0.0.1"]), allow_private=True)
    assert (tried.outcome, receiver.connections) == ("unreachable", 1)
    assert receiver.received == []
