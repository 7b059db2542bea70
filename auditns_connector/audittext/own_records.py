"""The records of ours as audit text.

Every function here returns one line with two places left open: byte 0 for the ``msg=audit(…):`` and byte 1 for
the ``node=HOST `` prefix. :func:`insertion.insert_records` fills them from the record that ours joins; :func:`stamp`
fills them for a record that is an event of its own.

Formats: the container identifier patches (ghak90: CONTAINER_OP, CONTAINER_ID, ``record=``, ``,^`` for nesting),
the namespace serial numbers of 2014 (``netns=`` … in hex, NS_INIT, NS_DEL), the PROC_EVENT_NM of 2016 (reason,
old and new). ``numeric`` chooses the spelling of the type, see :func:`rectypes.spelling`.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from auditns_connector.vocabulary import record_types as rectypes
from auditns_connector.vocabulary.namespaces import ALL_ORDER

#: contid= of a process whose container is not known
UNKNOWN: Final = "?"
#: contid= of none, as the last revision of the patches prints it
UNSET: Final = "-1"
#: the largest identifier there is: the one above it means that none is set
_MOST_ID: Final = (1 << 64) - 2
_CONTID: Final = re.compile(r"(?:\?|0|[1-9][0-9]{0,19})(?:,\^?(?:\?|0|[1-9][0-9]{0,19}))*(?:,\+[1-9][0-9]{0,6})?")
_SPLIT: Final = re.compile(r",\^?")

HEADER_PLACE: Final = b"\0"
NODE_PLACE: Final = b"\1"

_QUOTED: Final = bytes(c for c in range(0x21, 0x7F) if c != 0x22)
#: what an element of a list may hold as it is
_PLAIN: Final = bytes(c for c in _QUOTED if c not in b"%,:='")


def is_contid(text: str) -> bool:
    """Whether ``text`` is the value of a contid field as records of ours have it: of each container one spelling."""
    return _CONTID.fullmatch(text) is not None and all(
        one == UNKNOWN or int(one) <= _MOST_ID for one in contid_links(text)
    )


def contid_links(text: str) -> list[str]:
    """The parts of a contid field, innermost first; UNKNOWN for all those that a list which was cut leaves out."""
    return [UNKNOWN if one[:1] == "+" else one for one in _SPLIT.split(text)]


def encode_untrusted(value: bytes) -> bytes:
    """A string as audit_log_untrustedstring() writes it: in quotes, or as upper-case hex when it holds a
    quote, a byte below 0x21 or one above 0x7E."""
    if value.translate(None, _QUOTED):
        return value.hex().upper().encode()
    return b'"' + value + b'"'


def contid_chain(chain: Iterable[int]) -> str:
    """``4,^2,^1``: a container, then those around it, innermost first."""
    return ",^".join(map(str, chain))


def _line(number: int, numeric: bool, fields: str) -> bytes:
    # fields are ours and ASCII, or went through encode_untrusted
    return b"\1type=%b \0 %b\n" % (rectypes.spelling(number, numeric).encode(), fields.encode("ascii"))


def stamp(tail: bytes, ms: int, serial: int, node: bytes = b"") -> bytes:
    """Fill the open places: ``ms`` milliseconds since 1970, ``node`` with its trailing space or empty."""
    header = b"msg=audit(%d.%03d:%d):" % (ms // 1000, ms % 1000, serial)
    return tail.replace(HEADER_PLACE, header).replace(NODE_PLACE, node)


def container_id(contid: str, record: int | None, numeric: bool) -> bytes:
    """CONTAINER_ID: ``contid`` as :func:`contid_chain`, several of them with commas, or UNKNOWN; ``record`` is the
    place of the record it belongs to in its event, None when it belongs to the event (packets)."""
    which = "" if record is None else f"record={record} "
    return _line(rectypes.CONTAINER_ID, numeric, f"{which}contid={contid}")


def _untrusted(fields: Iterable[tuple[str, str | None]]) -> str:
    return "".join(
        f" {name}={encode_untrusted(value.encode('utf-8', 'surrogateescape')).decode()}"
        for name, value in fields
        if value is not None
    )


def container_info(
    contid: str,
    origin: str,
    numeric: bool,
    *,
    runtime: str | None = None,
    full_id: str | None = None,
    name: str | None = None,
    pod: str | None = None,
    image: str | None = None,
    namespace: str | None = None,
    pod_uid: str | None = None,
    role: str | None = None,
    cauid: int | None = None,
    cses: int | None = None,
    exit_pid: int | None = None,
    more: str = "",
) -> bytes:
    """CONTAINER_INFO: the names of a container; ``origin`` says how this process came to be counted to it (empty:
    that is not said), ``cauid`` and ``cses`` who logged in inside it (user id and session there). ``exit_pid`` is what
    a clone returned, as the host counts; 0: not known. ``more`` are ready fields, with a space before each."""
    names = (("ctr-name", name), ("pod", pod), ("pod-ns", namespace), ("image", image), ("pod-uid", pod_uid))
    described = _untrusted((("runtime", runtime), ("ctr-id", full_id), *names, ("role", role)))
    how = f" origin={origin}" if origin else ""
    login = "" if cauid is None else f" cauid={cauid} cses={_number(cses)}"
    child = "" if exit_pid is None else f" exit-pid={exit_pid or '?'}"
    return _line(rectypes.CONTAINER_INFO, numeric, f"contid={contid}{how}{described}{login}{child}{more}")


def container_alone(
    reason: str,
    contid: str,
    kind: str,
    numeric: bool,
    *,
    names: Iterable[tuple[str, str | None]],
    since: str | None = None,
    first: tuple[int, int] | None = None,
    more: str = "",
) -> bytes:
    """CONTAINER_INFO as an event of its own: ``reason`` is why it is written, ``kind`` the container's. ``names`` are
    untrusted strings by their fields; ``since`` is when it began (seconds.milliseconds), ``first`` pid and start of its
    first process. ``more`` as in :func:`container_info`."""
    fields = f"reason={reason} contid={contid} kind={kind}{_untrusted(names)}"
    fields += f" since={since}" if since is not None else ""
    fields += f" pid={first[0]} start={first[1]}" if first is not None else ""
    return _line(rectypes.CONTAINER_INFO, numeric, fields + more)


def item(value: bytes) -> str:
    """An element of a list inside a value: whatever could end it, or the value, as %XX."""
    if not value.translate(None, _PLAIN):
        return value.decode("ascii")
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in value)


def untrusted(value: bytes | str) -> str:
    """A value as :func:`encode_untrusted` has it, as text."""
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return encode_untrusted(raw).decode("ascii")


def labels(pairs: Mapping[str, str]) -> str | None:
    """``key=value,key=value`` of a container's labels; None where it has none."""
    raw = (
        (key.encode("utf-8", "surrogateescape"), text.encode("utf-8", "surrogateescape")) for key, text in pairs.items()
    )
    return ",".join(f"{item(key)}={item(text)}" for key, text in raw) or None


def ns_info(
    serials: Sequence[int | None],
    record: int | None,
    numeric: bool,
    *,
    inodes: Sequence[int | None] = (),
    dev: int | None = None,
) -> bytes:
    """NS_INFO: the namespaces of a process by serial, in the order of nstypes.ALL_ORDER; None is written ``?``.
    With ``inodes`` (of nsfs, in the same order) and ``dev``, their device, these follow: ``dev=00:04 netino=4026…``."""
    which = "" if record is None else f"record={record} "
    fields = " ".join(
        f"{name}ns={'?' if serial is None else f'{serial:x}'}" for name, serial in zip(ALL_ORDER, serials, strict=True)
    )
    if inodes:
        fields += f" dev={os.major(dev or 0):02x}:{os.minor(dev or 0):02x}" + "".join(
            f" {name}ino={_number(ino)}" for name, ino in zip(ALL_ORDER, inodes, strict=True)
        )
    return _line(rectypes.NS_INFO, numeric, which + fields)


def container_op(
    op: str,
    opid: int,
    contid: str,
    old_contid: str,
    numeric: bool,
    *,
    caller: str = "",
    comm: bytes | None = None,
    exe: bytes | None = None,
    error: str | None = None,
    run: str | None = None,
) -> bytes:
    """CONTAINER_OP: ``op`` is set, delegate, drop, checkpoint or restore; ``run`` is the dump of the last two.
    ``caller`` are ready fields of who asked (``pid=… uid=…``), ``error`` the name of the error when it was refused
    (``res=0``)."""
    fields = f"op={op} opid={opid} contid={contid} old-contid={old_contid}"
    fields += f" run-id={run}" if run else ""
    if caller:
        fields += " " + caller
    for name, value in (("comm", comm), ("exe", exe)):
        if value is not None:
            fields += f" {name}={encode_untrusted(value).decode()}"
    fields += f" error={error} res=0" if error else " res=1"
    return _line(rectypes.CONTAINER_OP, numeric, fields)


def _number(value: int | None, form: str = "d") -> str:
    return "?" if value is None else format(value, form)


def container_lost(
    source: str, cpu: int | None, count: int | None, start: str | None, end: str | None, numeric: bool, *,
    audit: int | None = None, makers: int | None = None, most: int | None = None, uid: int | None = None,
    contid: str | None = None, comm: bytes | None = None,
) -> bytes:  # fmt: skip
    """CONTAINER_LOST: ``count`` events of ``source`` are gone (None: not known how many), between ``start`` and
    ``end`` (times SEC.mmm, serials, or stamps SEC.mmm:SERIAL).

    ``audit``: how many of them are records of audit. Where somebody caused it, ``makers`` is how many did, and the one
    who caused ``most`` of it has ``uid`` (None: not known), ``contid`` (None: of the host) and ``comm``.
    """
    fields = f"source={source} cpu={_number(cpu)} count={_number(count)} from={start or '?'} to={end or '?'}"
    if audit is not None:
        fields += f" audit={audit}"
    if makers is not None:
        fields += f" makers={makers} most={_number(most)} uid={_number(uid)}"
        fields += f" comm={'?' if not comm else encode_untrusted(comm).decode()}"
        fields += "" if contid is None else f" contid={contid}"
    return _line(rectypes.CONTAINER_LOST, numeric, fields)
