"""The state of a container as a runtime's hook hands it over (OCI runtime specification, "State") → a request.

auditns-oci-hook (cdefs/hook/) sends the document as it is, in a sealed memfd; all reading of it is here. It and the
bundle's config.json are written by the runtime, but what stands in them may come from whoever made the image or the
pod: everything is bounded, and what is not of the expected type is left out.
"""

import json
import os
import stat
from typing import Final

from auditns_connector.model.runtimes import runtime_of_bundle
from auditns_connector.registration.criu_image import image_of
from auditns_connector.vocabulary.oci import names_of
from auditns_connector.vocabulary.values import Json, JsonObject

MAX_STATE: Final = 4 << 20
MAX_CONFIG: Final = 4 << 20
MAX_VALUE: Final = 600


class BadState(Exception):
    """Why the container cannot be registered."""


def request_of(document: bytes, root: str | None, hook: int = 0) -> JsonObject:
    """The request, as the control socket takes it, for the state ``document`` that the process ``hook`` has sent;
    ``root`` is its root directory, where its bundle is; with None no file is read. Raises :class:`BadState`."""
    try:
        state = json.loads(document)
    except (ValueError, RecursionError):
        raise BadState("stdin is not JSON") from None
    request = request_from(state, {} if root is None else _config(state, root))
    if root is not None and request["op"] == "contid-stopped":
        image = image_of(_bundle(state), root, hook)
        if image is not None:
            request["image"] = image._asdict()
    return request


def request_from(state: Json, config: Json) -> JsonObject:
    """As :func:`request_of`, with the state and the bundle's configuration read already. Raises :class:`BadState`."""
    if not isinstance(state, dict) or not isinstance(state.get("id"), str) or not state["id"]:
        raise BadState("stdin is not the state of a container")
    stopped = {"v": 1, "op": "contid-stopped", "id": state["id"][:MAX_VALUE]}
    if not state.get("pid"):
        return stopped
    pid = state["pid"]
    if not isinstance(pid, int) or isinstance(pid, bool) or not 0 < pid < 1 << 31:
        raise BadState("the state has no usable pid")
    annotations: JsonObject = {}
    for source in (config, state):
        found = source.get("annotations") if isinstance(source, dict) else None
        if isinstance(found, dict):
            annotations.update(found)
    names = {"runtime": runtime_of_bundle(annotations, _bundle(state)), "id": state["id"][:MAX_VALUE]}
    names |= {name: value[:MAX_VALUE] for name, value in names_of(annotations).items()}
    if state.get("status") == "stopped":  # it has ended, or is being restored: where the process lives
        return {**stopped, "pid": pid, "names": names}
    return {"v": 1, "op": "contid-hook", "pid": pid, "names": names}


def _bundle(state: Json) -> str:
    bundle = state.get("bundle") if isinstance(state, dict) else None
    return bundle if isinstance(bundle, str) and "\0" not in bundle else ""


def _config(state: Json, root: str) -> Json:
    """The bundle's config.json, as far as it can be had: it only adds names."""
    bundle = _bundle(state)
    if not bundle.startswith("/"):
        return {}
    try:
        fd = os.open(f"{root}{bundle}/config.json", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return {}
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_CONFIG:
            return {}
        return json.loads(os.pread(fd, MAX_CONFIG, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    finally:
        os.close(fd)
