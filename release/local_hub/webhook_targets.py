"""Where a webhook may lead: the Hub sends requests there for its users, so it must not lend them its own place in the network.

* http and https only, without a user or a password in the address; redirects are not followed, and of the answer only its
  status is kept.
* Public addresses always. Addresses of this machine and of private networks only where the Hub itself listens on loopback,
  for then its users sit on this machine anyway. Link-local ones (clouds keep credentials there), multicast and unspecified
  ones never.
* What counts is the address that the name stands for at each delivery, and the connection goes to that address.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import urllib3

URL_LIMIT = 2048
TIMEOUT = urllib3.Timeout(connect=5, read=10)


class BadTarget(ValueError):
    """An address that a webhook may not have, with the reason."""


@dataclass(frozen=True)
class Target:
    """The parts of a webhook's address."""

    secure: bool
    host: str
    port: int
    path: str
    netloc: str


def parsed(url: str) -> Target:
    """Raises BadTarget for what no webhook may lead to, whatever its name stands for."""
    if len(url) > URL_LIMIT or any(ord(character) <= 32 or ord(character) > 126 for character in url):
        raise BadTarget(f"an address is at most {URL_LIMIT} printable ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadTarget(f"it is not an address: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise BadTarget("it must begin with http:// or https:// and name a host")
    if parts.username is not None or parts.password is not None:
        raise BadTarget("it must not hold a user or a password")
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(secure, parts.hostname, port or (443 if secure else 80), path, parts.netloc)


def address_of(target: Target, *, private: bool) -> str:
    """The IP address to connect to. Raises BadTarget where one of those that the name stands for is not allowed."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BadTarget(f"{target.host} cannot be found") from error
    addresses = [str(one[4][0]) for one in found]
    for address in addresses:
        if not allowed(address, private=private):
            raise BadTarget(f"{target.host} stands for {address}, to which this Hub sends nothing")
    return addresses[0]


def allowed(address: str, *, private: bool) -> bool:
    """Whether the Hub may connect there; `private`: whether this machine and private networks are within reach."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour  # the same place in other words
        ip = inner or ip
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return False
    return ip.is_global or (private and (ip.is_loopback or ip.is_private))


def post(url: str, body: bytes, headers: dict[str, str], *, private: bool) -> int:
    """The status of the answer. Raises BadTarget, or urllib3's HTTPError where there is none."""
    target = parsed(url)
    address = address_of(target, private=private)
    pool: urllib3.HTTPConnectionPool
    if target.secure:
        pool = urllib3.HTTPSConnectionPool(
            address, target.port, timeout=TIMEOUT, server_hostname=target.host, assert_hostname=target.host
        )
    else:
        pool = urllib3.HTTPConnectionPool(address, target.port, timeout=TIMEOUT)
    with pool:
        answer = pool.request(
            "POST",
            target.path,
            body=body,
            headers={**headers, "Host": target.netloc},
            retries=False,
            redirect=False,
            preload_content=False,
        )
        answer.close()
        return int(answer.status)
