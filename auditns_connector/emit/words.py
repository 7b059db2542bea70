"""Values of records in words, for people: users, addresses, errors and what happened to namespaces. Pure but for the
list of users, which is read of /etc/passwd where that is this host's."""

import ipaddress
import os
import struct
from collections.abc import Mapping
from typing import Final

from auditns_connector.vocabulary.namespaces import FLAGS
from auditns_connector.vocabulary.syscall_names import error_name
from auditns_connector.vocabulary.values import Json

Fields = Mapping[str, Json]

_PASSWD: Final = "/etc/passwd"
_UNSET: Final = (1 << 32) - 1
#: families of sockets (include/linux/socket.h)
_UNIX: Final = 1
_INET: Final = 2
_INET6: Final = 10
_NETLINK: Final = 16
_VSOCK: Final = 40
_TYPES: Final = {f"{flag:x}": name for name, flag in FLAGS.items()}


def enriched(fields: Fields) -> Mapping[str, Json]:
    """What ENRICHED format adds to a record; a field of the record's own may be called so as well."""
    found = fields.get("enriched")
    return found if isinstance(found, dict) else {}


class Users:
    """Names of users; ``live`` where the ids in records are this host's. No service is asked: that may take long."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._read: tuple[int, int] | None = None
        self._names: dict[int, str] = {}

    def name(self, fields: Fields, field: str) -> str | None:
        """The user that ``field`` of a record means: as ENRICHED format has it, as this host calls it, else the number;
        ``None`` where there is none."""
        number = fields.get(field)
        if number is None or number == _UNSET:
            return None
        added = enriched(fields).get(field.upper())
        if isinstance(added, str) and added and not added.startswith("unknown("):
            return added
        return (self._names.get(number) if isinstance(number, int) else None) or str(number)

    def refresh(self) -> None:
        """Read the names again where they have changed."""
        if not self._live:
            return
        try:
            found = os.stat(_PASSWD)
            seen = found.st_mtime_ns, found.st_size
            if seen != self._read:
                with open(_PASSWD, encoding="utf-8", errors="replace") as file:
                    rows = [line.split(":") for line in file]
                self._names = {int(row[2]): row[0] for row in reversed(rows) if len(row) > 2 and row[2].isdecimal()}
                self._read = seen
        except OSError:
            self._names, self._read = {}, None


def address(fields: Fields) -> str | None:
    """The address of a SOCKADDR record; ``None`` where it cannot be read."""
    raw = fields.get("saddr")
    try:
        data = bytes.fromhex(raw) if isinstance(raw, str) else b""
        family = int.from_bytes(data[:2], "little")
        if family > 255:  # of a big-endian machine
            family = int.from_bytes(data[:2], "big")
        if family == _UNIX:
            path = data[2:]
            name = path[1:] if path[:1] == b"\0" else path.partition(b"\0")[0]
            shown = name.rstrip(b"\0").decode("utf-8", "backslashreplace")
            return "unix:" + ("@" if path[:1] == b"\0" and shown else "") + (shown or "unnamed")
        if family == _INET:
            port, host = struct.unpack_from(">H4s", data, 2)
            return f"{ipaddress.IPv4Address(host)}:{port}"
        if family == _INET6:
            port, host = struct.unpack_from(">H4x16s", data, 2)
            return f"[{ipaddress.IPv6Address(host)}]:{port}"
        if family == _NETLINK:
            return f"netlink:{struct.unpack_from('<I', data, 4)[0]}"
        if family == _VSOCK:
            port, cid = struct.unpack_from("<II", data, 4)
            return f"vsock:{cid}:{port}"
    except (ValueError, struct.error):
        return None
    return f"family {family}" if len(data) >= 2 else None


def failure(fields: Fields) -> str:
    """Why a system call failed: the error's name, else its number."""
    number = fields.get("exit")
    if isinstance(number, int) and number < 0:
        return error_name(str(fields.get("arch") or ""), -number) or str(number)
    return str(number)


def paths(records: "list[tuple[str, Fields]]") -> list[str]:
    """The files of an event, each with its directory where that is given."""
    cwd = next((str(other["cwd"]) for kind, other in records if kind == "CWD" and other.get("cwd")), "")
    found = []
    for kind, other in records:
        name = other.get("name")
        if kind != "PATH" or other.get("nametype") == "PARENT" or not name:
            continue
        found.append(os.path.normpath(os.path.join(cwd, str(name))) if cwd else str(name))
    return found


def namespace(kind: str, fields: Fields) -> str | None:
    """What a record of ours says of a namespace; ``None`` for another one."""
    what = _TYPES.get(str(fields.get("nstype")), str(fields.get("nstype")))
    ino = fields.get("ino")
    if kind == "NS_INIT":
        return f"new {what} namespace {ino}"
    if kind == "NS_DEL":
        return f"{what} namespace {ino} is gone"
    if kind == "NS_CHANGE":
        if fields.get("reason") == "exit":
            return f"left {what} namespace {fields.get('old-ino')} (exit)"
        return f"{what} namespace {fields.get('old-ino')} -> {ino} ({fields.get('reason')})"
    return None
