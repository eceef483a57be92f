"""Where we may go when others name the place. Of an IPv6 address of a transition what stands inside counts."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

Address = IPv4Address | IPv6Address

_NEVER: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "169.254.0.0/16",  # link-local: metadata of AWS, GCP, Azure and most others
            "100.100.100.200/32",  # metadata of Alibaba
            "168.63.129.16/32",  # Azure's own, though it looks public
            "192.0.0.192/32",  # metadata of Oracle
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
) + tuple(
    map(
        IPv6Network,
        (
            "::/128",
            "fe80::/10",
            "fd00:ec2::/32",  # metadata of AWS
            "fd20:ce::/32",  # of GCP
            "fd00:c1::/32",  # of Oracle
            "fd00:42::42/128",  # of Scaleway
            "64:ff9b:1::/48",  # a NAT64 of one's own: only that network knows where in it the IPv4 address stands
            "ff00::/8",
        ),
    )
)
"""Not even with WEBHOOK_ALLOW_PRIVATE."""

# Beside what `is_global` refuses; older Pythons know fewer of them.
_NOT_PUBLIC: Final = tuple(
    map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "100.64.0.0/10", "198.18.0.0/15"))
) + tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_PUBLIC_V6: Final = IPv6Network("2000::/3")

_LAST_32_BITS: Final = tuple(map(IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
"""An IPv4 address ends these: compatible, mapped, translated, NAT64."""
_LOOPBACK_V6: Final = IPv6Address("::1")


def may_call(address: Address, *, allow_private: bool) -> bool:
    """Whether we may go to this address, and to every address wrapped in it."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    inner = _unwrap(address)
    if any(address in network or inner in network for network in _NEVER):
        return False
    return allow_private or _is_public(inner)


def _is_public(address: Address) -> bool:
    if any(address in network for network in _NOT_PUBLIC):
        return False
    if isinstance(address, IPv6Address) and address not in _PUBLIC_V6:
        return False
    return address.is_global and not address.is_multicast


def _unwrap(address: Address) -> Address:
    if isinstance(address, IPv4Address) or address in {_LOOPBACK_V6, IPv6Address(0)}:
        return address
    if any(address in network for network in _LAST_32_BITS):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    return address
