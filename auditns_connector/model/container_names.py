"""What a container is called beside its number, by those who know: a hook, or the files of its runtime."""

import re
from typing import Final

from auditns_connector.model.containers import Containers
from auditns_connector.model.places import Container
from auditns_connector.model.runtimes import BY_NAME, KUBERNETES
from auditns_connector.vocabulary.values import Json, JsonObject

#: what may be said about a container, and how many bytes of a value are kept: all of them written in hexadecimal must
#: fit into one record
NAMES: Final = ("runtime", "id", "name", "image", "pod", "namespace", "pod_uid", "role")
MAX_NAME: Final = 512
#: labels that are kept: so many, of so many bytes together
MAX_LABELS: Final = 64
MAX_LABEL_BYTES: Final = 1024
_NO_BYTE: Final = "[\ud800-\udc7f\udd00-\udfff]"


def bounded(value: str) -> str:
    """``value`` cut to what is kept; surrogates that stand for no byte become question marks."""
    raw = re.sub(_NO_BYTE, "?", value[:MAX_NAME]).encode("utf-8", "surrogateescape")[:MAX_NAME]
    return raw.decode("utf-8", "surrogateescape")


def bounded_labels(labels: Json) -> dict[str, str]:
    """The labels that are kept, whole ones alone, in the order of their keys."""
    found: dict[str, str] = {}
    room = MAX_LABEL_BYTES
    for key, value in sorted(labels.items()) if isinstance(labels, dict) else ():
        if not (isinstance(key, str) and isinstance(value, str) and key) or len(found) >= MAX_LABELS:
            continue
        key, value = re.sub(_NO_BYTE, "?", key), re.sub(_NO_BYTE, "?", value)
        size = len(key.encode("utf-8", "surrogateescape")) + len(value.encode("utf-8", "surrogateescape")) + 2
        if size <= room:
            found[key], room = value, room - size
    return found


def describe(container: Container, like: Container | None, names: JsonObject) -> None:
    """Give ``container`` its names: those in ``names``, else those of the derived one."""
    if like is not None and like.kind == "runtime":
        for field in NAMES:
            setattr(container, field, getattr(like, field))
        container.labels = dict(like.labels)
    for field in NAMES:
        value = names.get(field)
        if isinstance(value, str) and value:
            setattr(container, field, bounded(value))
    container.labels = bounded_labels(names.get("labels")) or container.labels


def add(containers: Containers, request: JsonObject) -> Container | None:
    """What a runtime's own files say about a living container, which is returned; ``None`` where it is not there.
    Names that it has already stay, but for the runtime where several make such paths."""
    container = containers.by_key.get(tuple((str(r), str(i)) for r, i in request["key"]))
    if container is None:
        return None
    for field, value in request["names"].items():
        if field == "runtime":
            _set_runtime(container, str(value))
        elif field in NAMES and (not getattr(container, field) or (field == "name" and _called_like_unit(container))):
            setattr(container, field, bounded(str(value)))
    if not container.labels:
        container.labels = bounded_labels(request.get("labels"))
    containers.renames += 1
    return container


def _called_like_unit(container: Container) -> bool:
    """Whether its name is that of its systemd unit, for want of a better one."""
    home = container.home
    return container.sandbox is not None and home is not None and container.name == home.unit


def _set_runtime(container: Container, runtime: str) -> None:
    row = BY_NAME.get(container.key[-1][0])
    if row is not None and row.shared and runtime in BY_NAME and runtime != KUBERNETES:
        container.runtime = runtime
