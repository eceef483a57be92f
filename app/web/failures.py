"""Who has failed to say who they are too often of late, and what is refused to them for the rest of a minute.

A refused address asks no database. But an address may be a whole office behind one router, and one wrong script must
not lock it out: a credential that has opened something lately still passes, and is then looked up as ever. So a refusal
costs a guesser everything and those who work nothing; a key that was never used here waits a minute at most.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

MOST_FAILURES: Final = 100
WINDOW_SECONDS: Final = 60.0
_ADDRESSES: Final = 5_000
_CREDENTIALS: Final = 10_000
_LONGEST_ADDRESS: Final = 64

Client = tuple[str, int] | None
"""Whom a request came from, as ASGI has it; behind a proxy of FORWARDED_ALLOW_IPS already the caller's."""


class Failures:
    """Counts failed authentications by address (IPv6: by /64), in windows that the first failure opens.

    One a process; the addresses and the credentials it remembers are bounded. Of a credential only Python's keyed
    hash is kept.
    """

    def __init__(self, *, most: int = MOST_FAILURES, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self._clock = clock
        self._windows: OrderedDict[str, list[float]] = OrderedDict()  # address → [when it ends, failures]
        self._good: set[int] = set()
        self._good_before: set[int] = set()

    def refused_seconds(self, client: Client, credential: bytes) -> int:
        """How long this address must wait before this credential is looked at; 0: not at all."""
        if not self._windows:
            return 0
        window = self._windows.get(_address(client))
        if window is None or window[1] < self.most:
            return 0
        known = hash(credential)
        left = window[0] - self._clock()
        return 0 if left <= 0 or known in self._good or known in self._good_before else math.ceil(left)

    def failed(self, client: Client, credential: bytes) -> None:
        """This credential, from there, opened nothing."""
        known = hash(credential)
        self._good.discard(known)
        self._good_before.discard(known)
        address, now = _address(client), self._clock()
        window = self._windows.get(address)
        if window is None or window[0] <= now:
            window = self._windows[address] = [now + WINDOW_SECONDS, 0]
        window[1] += 1
        self._windows.move_to_end(address)
        if len(self._windows) > _ADDRESSES:
            self._windows.popitem(last=False)

    def succeeded(self, credential: bytes) -> None:
        """This credential opened something."""
        known = hash(credential)
        if known in self._good:
            return
        self._good.add(known)
        if len(self._good) >= _CREDENTIALS:
            self._good_before, self._good = self._good, set()


def _address(client: Client) -> str:
    host = client[0][:_LONGEST_ADDRESS] if client else ""
    if ":" not in host:
        return host
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ip_network((address, 64), strict=False))
