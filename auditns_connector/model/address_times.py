"""Addresses, and since when and until when a network namespace had them, as far as that is proven."""

from collections.abc import Iterable
from typing import Final

_LOCALHOST: Final = b"\x7f\0\0\1"
_LOCALHOST_6: Final = bytes(15) + b"\1"
_MAPPED: Final = bytes(10) + b"\xff\xff"
#: in front of the key of a broadcast address
BROADCAST: Final = b"*"
NOT, MAYBE, SURE = range(3)
#: in place of the end of what goes on (ns)
EVER: Final = (1 << 63) - 1


def address(text: bytes | str) -> bytes | None:
    """An IPv4 or IPv6 address as 4 or 16 bytes (an IPv4 one mapped into IPv6 as 4); ``None`` for anything else."""
    from socket import AF_INET, AF_INET6, inet_pton  # slow to import, and few hosts log packets

    word = text.decode("latin-1") if isinstance(text, bytes) else text
    try:
        raw = inet_pton(AF_INET6 if ":" in word else AF_INET, word)
    except (OSError, ValueError):
        return None
    return raw[12:] if len(raw) == 16 and raw.startswith(_MAPPED) else raw


def key_of(raw: bytes) -> bytes:
    """The key of an address: all of 127.0.0.0/8 is local where one of it is."""
    return _LOCALHOST if len(raw) == 4 and raw[0] == 127 else raw


def is_loopback(raw: bytes) -> bool:
    """Whether packets with an address stay in the namespace in which they were sent."""
    return key_of(raw) in (_LOCALHOST, _LOCALHOST_6)


def of_all_hosts(raw: bytes) -> bool:
    """Whether an address names no single host: unspecified, multicast, broadcast."""
    if len(raw) == 4:
        return raw[0] == 0 or raw[0] >> 4 == 14 or raw == b"\xff\xff\xff\xff"
    return raw[0] == 255 or not any(raw)


def read_key(text: str) -> bytes | None:
    """Under what an address is kept; ``*`` in front: a broadcast address."""
    raw = address(text.removeprefix("*"))
    if raw is None:
        return None
    return BROADCAST + raw if text.startswith("*") else key_of(raw)


def key_text(key: bytes) -> str:
    from socket import AF_INET, AF_INET6, inet_ntop

    raw = key.removeprefix(BROADCAST) if len(key) not in (4, 16) else key
    return "*" * (raw is not key) + inet_ntop(AF_INET if len(raw) == 4 else AF_INET6, raw)


def read_keys(own: Iterable[object], all_of: Iterable[object]) -> dict[bytes, None]:
    texts = [*map(str, own), *(f"*{one}" for one in all_of)]
    return {key: None for text in texts if (key := read_key(text)) is not None}


class Hold:
    """A time in which a namespace had an address: for sure from ``sure_from`` to ``sure_until``, and not before
    ``maybe_from`` or after ``maybe_until`` (ns)."""

    __slots__ = ("maybe_from", "maybe_until", "sure_from", "sure_until")

    def __init__(self, maybe_from: int, sure_from: int, sure_until: int, maybe_until: int) -> None:
        self.maybe_from, self.sure_from = maybe_from, sure_from
        self.sure_until, self.maybe_until = sure_until, maybe_until

    def times(self) -> tuple[int, int, int, int]:
        """All four, as they are given to make one."""
        return self.maybe_from, self.sure_from, self.sure_until, self.maybe_until

    def end(self, since: int, until: int) -> None:
        """It ends between ``since`` and ``until``, where it has not."""
        self.sure_until, self.maybe_until = min(self.sure_until, since), min(self.maybe_until, until)


class AddressHistory:
    """The addresses of one namespace: an address without a :class:`Hold` it did not have from ``since`` on (ns)."""

    __slots__ = ("gone", "holds", "since")

    def __init__(self, since: int) -> None:
        self.since = since
        #: when its end was reported
        self.gone: int | None = None
        self.holds: dict[bytes, list[Hold]] = {}

    def gone_before(self, low: int) -> bool:
        """Whether it had ended by then."""
        return self.gone is not None and self.gone < low

    def had(self, key: bytes, low: int, high: int) -> int:
        """Whether it had an address all the time from ``low`` to ``high``: SURE, MAYBE or NOT."""
        how = NOT
        for hold in self.holds.get(key, ()):
            if hold.sure_from <= low and high <= hold.sure_until:
                return SURE
            if hold.maybe_from <= high and low <= hold.maybe_until:
                how = MAYBE
        return how
