"""Which container is meant by a word. Pure."""

from typing import Final

from auditns_connector.audittext.own_records import is_contid
from auditns_connector.errors import AuditnsError
from auditns_connector.query.names import Names

#: that much of a runtime's id is enough
_LEAST: Final = 4
_SHOWN: Final = 8


def choose(word: str, names: Names) -> str:
    """The contid (with those around it) of the container that is called ``word``: a contid, a name, or the beginning of
    an id. Raises :class:`AuditnsError` where none or several are."""
    if is_contid(word) and word != "?":
        return word
    found = sorted(set(names.contids(lambda about: about.get("name") == word)))
    if not found and len(word) >= _LEAST:
        found = sorted(set(names.contids(lambda about: about.get("id", "").startswith(word))))
    if len(found) == 1:
        return found[0]
    if not found:
        raise AuditnsError(f"{word}: no record tells of a container of that name or id; auditns containers lists them")
    some = ", ".join(f"{contid} ({names.lives(contid)[-1].about.get('id', '?')[:12]})" for contid in found[:_SHOWN])
    raise AuditnsError(f"{word}: {len(found)} containers are called so; name one by its contid: {some}")


def siblings(contid: str, names: Names) -> list[str]:
    """The other containers of the image that ``contid`` is of. Raises :class:`AuditnsError`."""
    images: set[str | None] = {life.about["image"] for life in names.lives(contid) if "image" in life.about}
    if not images:
        raise AuditnsError(f"{contid}: no record tells of what image it is")
    return sorted(one for one in names.contids(lambda about: about.get("image") in images) if one != contid)
