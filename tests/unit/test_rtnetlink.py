"""Messages of rtnetlink as bytes: whole, cut and odd ones."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.host import rtnetlink


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body + bytes(-len(body) % 4)


def address(local: str | None, other: str | None = None, broadcast: str | None = None) -> bytes:
    pairs = ((1, other), (2, local), (4, broadcast))
    return bytes(8) + b"".join(attribute(kind, socket.inet_aton(text)) for kind, text in pairs if text)


def test_an_address_and_its_broadcast_address() -> None:
    own, other, all_of = (socket.inet_aton(text) for text in ("10.0.0.1", "10.0.0.2", "10.0.0.255"))
    assert rtnetlink.addresses(address("10.0.0.1", "10.0.0.2", "10.0.0.255")) == ([own], [all_of])
    assert rtnetlink.addresses(address(None, "10.0.0.2")) == ([other], [])
    six = bytes(8) + attribute(1, socket.inet_pton(socket.AF_INET6, "fd00::1"))
    assert rtnetlink.addresses(six) == ([socket.inet_pton(socket.AF_INET6, "fd00::1")], [])
    assert rtnetlink.addresses(bytes(8) + attribute(2, b"abc")) == ([], [])


def test_messages_one_behind_the_other() -> None:
    data = message(20, address("10.0.0.1")) + message(3, bytes(4), 0x10) + message(2, struct.pack("=i", -17))
    found = list(rtnetlink.messages(data))
    assert [(kind, flags) for kind, flags, _ in found] == [(20, 0), (3, 0x10), (2, 0)]
    assert rtnetlink.failure(found[2][2]) == 17


def test_what_is_asked_is_what_linux_reads() -> None:
    ((kind, flags, body),) = rtnetlink.messages(rtnetlink.number_of(7))
    assert (kind, flags, rtnetlink.nsid(body)) == (90, 1, -1)
    ((kind, flags, body),) = rtnetlink.messages(rtnetlink.number(7))
    assert (kind, flags, body[4:12]) == (88, 5, attribute(3, struct.pack("=i", 7)))


@pytest.mark.parametrize("cut", range(0, 64, 3))
def test_cut_messages(cut: int) -> None:
    data = message(20, address("10.0.0.1", None, "10.0.0.255"))
    for _, _, body in rtnetlink.messages(data[:cut]):
        rtnetlink.addresses(body)
    rtnetlink.addresses(data[16 : 16 + cut])


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for _, _, body in rtnetlink.messages(data):
        own, all_of = rtnetlink.addresses(body)
        assert all(len(raw) in (4, 16) for raw in own + all_of)
        assert rtnetlink.nsid(body) >= -(1 << 31)
        rtnetlink.failure(body)
