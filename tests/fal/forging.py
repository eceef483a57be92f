"""Everything that can be done to a true webhook on its way, by somebody who has no key of fal's."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st

from tests.fal.signing import ACCOUNT, Pairs, Signer

ORDER: Final = 2**252 + 27742317777372353535851937790883648493  # of Ed25519's group: S and S + ORDER are akin
STRANGER: Final = Signer()

Sent = tuple[Pairs, bytes]


@st.composite
def _change_bytes(draw: st.DrawFn, value: bytes) -> bytes:
    """One value, changed in one of many ways; perhaps not at all."""
    place = draw(st.integers(0, max(0, len(value) - 1)))
    junk = draw(st.binary(min_size=1, max_size=40))
    bit = 1 << draw(st.integers(0, 7))
    flipped = bytes([value[place] ^ bit]) if value else b""
    ways: list[Callable[[], bytes]] = [
        lambda: value[:place] + flipped + value[place + 1 :],
        lambda: value[:place] + value[place + 1 :],
        lambda: value[:place] + junk + value[place:],
        lambda: value[:place],
        lambda: value[place:],
        value.swapcase,
        value.upper,
        lambda: value[::-1],
        lambda: value + value,
        lambda: junk,
        lambda: b"",
        lambda: b" " + value,
        lambda: value + draw(st.sampled_from([b" ", b"\n", b"\r\n", b"\0", b"=", b"\t", b",", b";", b"0"])),
        lambda: b"0" + value,
        lambda: b"+" + value,
        lambda: value + b".0",
        lambda: value.decode("latin-1").encode("utf-16"),
    ]
    return draw(st.sampled_from(ways))()


@st.composite
def _change_headers(draw: st.DrawFn, headers: Pairs) -> Pairs:
    changed = list(headers)
    at = draw(st.integers(0, len(headers) - 1))
    other = draw(st.integers(0, len(headers) - 1))
    name, value = changed[at]
    way = draw(st.sampled_from(["value", "drop", "twice", "twice changed", "swap", "rename", "merge"]))
    if way == "value":
        changed[at] = name, draw(_change_bytes(value))
    elif way == "drop":
        del changed[at]
    elif way == "twice":
        changed.insert(draw(st.integers(0, len(changed))), (name, value))
    elif way == "twice changed":
        changed.insert(draw(st.integers(0, len(changed))), (name, draw(_change_bytes(value))))
    elif way == "swap":
        changed[at], changed[other] = (name, headers[other][1]), (headers[other][0], value)
    elif way == "rename":
        changed[at] = name.replace(b"x-fal-", b"x-fai-"), value
    else:
        changed[at] = name, value + b"," + headers[other][1]
    return changed


@st.composite
def _resign(draw: st.DrawFn, sent: Sent) -> Sent:
    """Signed anew, but not as fal signs: by a stranger's key, too early or late, or put together in another way."""
    headers, body = sent
    values = [value for _, value in headers]
    signature = bytes.fromhex(values[3].decode())
    way = draw(st.sampled_from(["stranger", "stranger's account", "malleable", "halves", "zero", "raw", "sha of all"]))
    if way.startswith("stranger"):
        account = ACCOUNT if way == "stranger" else "github|666"
        return STRANGER.sign(body, request_id=values[0].decode(), user_id=account), body
    if way == "malleable":
        s = int.from_bytes(signature[32:], "little") + draw(st.integers(1, 7)) * ORDER
        forged = signature[:32] + s.to_bytes(33, "little")[:32]
    elif way == "halves":
        forged = signature[32:] + signature[:32]
    elif way == "zero":
        forged = bytes(64)
    else:
        key: Ed25519PrivateKey = STRANGER.key
        forged = key.sign(body if way == "raw" else b"\n".join([*values[:3], body]))
    return [*headers[:3], (headers[3][0], forged.hex().encode())], body


@st.composite
def forgeries(draw: st.DrawFn, sent: Sent) -> Sent:
    """A true webhook, with something done to it: nothing of this may be taken."""
    headers, body = sent
    part = draw(st.sampled_from(["headers", "headers", "body", "signature", "both"]))
    if part in {"headers", "both"}:
        headers = draw(_change_headers(headers))
    if part in {"body", "both"}:
        body = draw(_change_bytes(body))
    if part == "signature":
        headers, body = draw(_resign(sent))
    return headers, body


def moments_too_far(now: datetime) -> st.SearchStrategy[datetime]:
    """More than five minutes before or after."""
    late = st.integers(302, 10**8).map(lambda seconds: now + timedelta(seconds=seconds))
    early = st.integers(302, 10**8).map(lambda seconds: now - timedelta(seconds=seconds))
    return (late | early).filter(lambda moment: moment > datetime(1971, 1, 1, tzinfo=UTC))
