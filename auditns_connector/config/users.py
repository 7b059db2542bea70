"""The table [users]: the streams that ordinary users may have, for containers in user namespaces of theirs."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from auditns_connector.config import readers as v
from auditns_connector.config.readers import Reader
from auditns_connector.config.streams import MAX_BACKLOG
from auditns_connector.vocabulary.values import MOST_UID, Json, decimal

MOST_STREAMS: Final = 64


class UserOptions(NamedTuple):
    """``streams``: how many each user may make, 0: none. ``quota``: (name or number of a user, how many records his
    streams may hold together); who is not in it may hold none."""

    streams: int = 8
    quota: tuple[tuple[str, int], ...] = ()


class Quotas(NamedTuple):
    """Quotas by uid, and the entries that cannot be used, each with the reason."""

    by_uid: dict[int, int]
    unusable: list[tuple[str, str]]


def resolve(quota: tuple[tuple[str, int], ...]) -> Quotas:
    """Find the users of ``quota`` in the password database of this host."""
    found = Quotas({}, [])
    for name, records in quota:
        uid = _uid(name)
        if uid is None:
            found.unusable.append((name, f"there is no user {name!r} on this host"))
        elif uid == 0:
            found.unusable.append((name, "root needs none"))
        elif uid in found.by_uid:
            found.unusable.append((name, f"uid {uid} has a quota already"))
        else:
            found.by_uid[uid] = records
    return found


def _uid(name: str) -> int | None:
    if name.isdecimal():
        return decimal(name, MOST_UID)
    import pwd

    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def quota(value: Json) -> tuple[tuple[str, int], ...]:
    """The quotas that a table says. Raises ValueError."""
    records = v.whole(0, MAX_BACKLOG)
    if not isinstance(value, dict) or len(value) > 1000:
        raise ValueError("USER = RECORDS lines, at most 1000")
    for name in value:
        if not (0 < len(name) <= 64 and name.isascii() and name.isprintable() and " " not in name and ":" not in name):
            raise ValueError(f"names or numbers of users; {v.show(name)} is neither")
    try:
        return tuple(sorted((name, records(number)) for name, number in value.items()))
    except ValueError as error:
        raise ValueError(f"for each user {error}") from None


SCHEMA: Final[Mapping[str, Reader]] = {"streams": v.whole(0, MOST_STREAMS), "quota": quota}
