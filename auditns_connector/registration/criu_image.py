"""Of which dump the image of a container is: ``dump_criu_run_id`` of CRIU's inventory.img (CRIU 4.1 and later).

A dump writes the UUID of its run into the image, and who restores from that image has it, on whatever host: it is what
proves that two containers are one and the same. (A runtime's identifier may be kept or not; a pod's uid or a time are
hints at best, for an image may be restored many times.) Layout: CRIU ``criu/include/magic.h``, ``criu/protobuf.c``,
``images/inventory.proto``: two magics, of all images and of this one (older ones lack the first), then the size of a
protobuf message, and the message. Nothing that is read here decides anything; it is bounded and checked all the same.

Where the image is the runtime says: ``--image-path`` on its command line (runc and crun, whose child the hook is), else
``checkpoint`` below its directory; in the container's bundle with Podman.
"""

import os
import re
import stat
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from auditns_connector.sources.runtime_daemons import Monitor, monitor_of, option

_COMMON_MAGIC: Final = 0x54564319
_INVENTORY_MAGIC: Final = 0x58313116
_RUN_ID: Final = 13
_MAX_IMAGE: Final = 1 << 20
_UUID: Final = rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_WORD: Final = struct.Struct("<I")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Image(NamedTuple):
    """``run``: the UUID of the dump; ``written``: when the image was (ns since 1970)."""

    run: str
    written: int


def run_id(data: bytes) -> str:
    """The UUID in the bytes of an inventory.img; "" where there is none, or where it is no such file."""
    at = 0
    for magic in (_COMMON_MAGIC, _INVENTORY_MAGIC):
        if data[at : at + 4] == _WORD.pack(magic):
            at += 4
        elif magic == _INVENTORY_MAGIC:
            return ""
    if len(data) < at + 4:
        return ""
    (size,) = _WORD.unpack_from(data, at)
    message = data[at + 4 : at + 4 + size]
    if len(message) != size:
        return ""  # it is still being written, or cut
    try:
        found = [value for number, value in _fields(message) if number == _RUN_ID]
    except (IndexError, ValueError):
        return ""
    return found[-1].decode("ascii") if found and re.fullmatch(_UUID, found[-1]) else ""


def image_of(bundle: str, root: str, hook: int) -> Image | None:
    """The image that the runtime of a container with this ``bundle`` works with; ``hook`` is the pid of the hook that
    it has called, ``root`` the directory that is its root. None where none with a UUID can be read."""
    for path in _places(bundle, monitor_of(hook)):
        found = _read(f"{root}{path}/inventory.img")
        if found is not None:
            return found
    return None


def _places(bundle: str, runtime: Monitor) -> Iterator[str]:
    given = option(runtime.argv, "--image-path")
    if given and runtime.cwd.startswith("/"):
        yield os.path.join(runtime.cwd, given)
    elif {"checkpoint", "restore"} & set(runtime.argv) and runtime.cwd.startswith("/"):
        yield f"{runtime.cwd}/checkpoint"
    if bundle.startswith("/"):
        yield f"{bundle}/checkpoint"


def _read(path: str) -> Image | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None  # no image there
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_size > _MAX_IMAGE:
            return None
        run = run_id(os.pread(fd, _MAX_IMAGE, 0))
        return Image(run, about.st_mtime_ns) if run else None
    except OSError:
        return None
    finally:
        os.close(fd)


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of a protobuf message's fields that are strings or messages. Raises IndexError, ValueError."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte, at = message[at], at + 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    while at < len(message):
        number, kind = divmod(varint(), 8)
        if kind == _VARINT:
            varint()
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        elif kind == _BYTES:
            size = varint()
            if at + size > len(message):
                raise ValueError("a field that is longer than its message")
            yield number, message[at : at + size]
            at += size
        else:
            raise ValueError("a field of no kind that is known")
