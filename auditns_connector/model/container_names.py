"""What a container is called beside its number, by those who know: a hook, or the files of its runtime."""

import re
from typing import Final

from auditns_connector.model.containers import Container, Containers
from auditns_connector.vocabulary.values import JsonObject

#: what may be said about a container, and how many bytes of a value are kept: all of them written in hexadecimal must
#: fit into one record
NAMES: Final = ("runtime", "id", "name", "image", "pod", "namespace")
MAX_NAME: Final = 512
_NO_BYTE: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def bounded(value: str) -> str:
    """``value`` cut to what is kept; surrogates that stand for no byte become question marks."""
    raw = _NO_BYTE.sub("?", value[:MAX_NAME]).encode("utf-8", "surrogateescape")[:MAX_NAME]
    return raw.decode("utf-8", "surrogateescape")


def describe(container: Container, like: Container | None, names: JsonObject) -> None:
    """Give ``container`` what is known of it: what ``names`` say, else what was known of the derived one."""
    if like is not None and like.kind == "runtime":
        container.runtime, container.id = like.runtime, like.id
        container.name, container.image, container.pod = like.name, like.image, like.pod
        container.labels = dict(like.labels)
    for field in NAMES:
        value = names.get(field)
        if not isinstance(value, str) or not value:
            continue
        if field == "namespace":
            container.labels[field] = bounded(value)
        else:
            setattr(container, field, bounded(value))


def add(containers: Containers, request: JsonObject) -> None:
    """What a runtime's own files say about a living container; what was known already stays, save a pod's number from
    the cgroup path, for which its name stands better."""
    container = containers.by_key.get(tuple((str(r), str(i)) for r, i in request["key"]))
    if container is None:
        return
    for field, value in request["names"].items():
        if field == "namespace":
            container.labels.setdefault(field, bounded(str(value)))
        elif field in NAMES and (not getattr(container, field) or (field == "pod" and container.kind == "runtime")):
            setattr(container, field, bounded(str(value)))
    containers.renames += 1
