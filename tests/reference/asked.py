"""What a search means, readably: conditions tested one by one on events as JSON objects."""

import fnmatch
import os
from collections.abc import Mapping, Sequence
from typing import Any

Event = Mapping[str, Any]


def wanted(
    event: Event, options: Mapping[str, Sequence[str]], since: int | None = None, until: int | None = None
) -> bool:
    """Whether an event (an object of ``--format json``, with numbers of system calls) fulfils all ``options``."""
    ms = int(event["time"].replace(".", ""))
    if (since is not None and ms < since) or (until is not None and ms > until):
        return False
    return all(_fulfils(values_of(event, option), option, texts) for option, texts in options.items() if texts)


def _fulfils(values: list[str], option: str, texts: Sequence[str]) -> bool:
    good = [text.removeprefix("=") for text in texts if not text.startswith("!=")]
    bad = [text[2:] for text in texts if text.startswith("!=")]
    if any(_any(values, option, pattern) for pattern in bad):
        return False
    return not good or any(_any(values, option, pattern) for pattern in good)


def _any(values: list[str], option: str, pattern: str) -> bool:
    if option == "file":
        slash = "/" in pattern
        return any(fnmatch.fnmatchcase(value if slash else value.rpartition("/")[2], pattern) for value in values)
    return any(fnmatch.fnmatchcase(value, pattern) for value in values)


def values_of(event: Event, option: str) -> list[str]:
    """All that an event has for an option."""
    records = event["records"]
    if option in ("pid", "contid"):
        return [str(one) for one in _processes(event)[option]]
    if option == "type":
        return [record["type"] for record in records]
    if option == "file":
        cwd = next((record["cwd"] for record in records if record["type"] == "CWD" and "cwd" in record), None)
        return [_joined(cwd, r[field]) for r in records for field in ("name",) if r["type"] == "PATH" and r.get(field)]
    if option == "argv":
        return [word for r in records for word in [*r.get("argv", ()), " ".join(r.get("argv", ()))] if "argv" in r]
    if option == "key":
        return [key for r in records if r.get("key") is not None for key in str(r["key"]).split("\1")]
    if option == "success":
        return [r["success"] for r in records if "success" in r]
    fields = {"comm": ("comm", "ocomm"), "auid": ("auid", "oauid"), "uid": ("uid", "ouid")}.get(option, (option,))
    kinds = {"ocomm": "OBJ_PID", "oauid": "OBJ_PID", "ouid": "OBJ_PID"}
    return [
        str(r[field]) for r in records for field in fields
        if r.get(field) is not None and kinds.get(field, r["type"]) == r["type"] and r["type"] != "PATH"
    ]  # fmt: skip


def _joined(cwd: str | None, name: str) -> str:
    return os.path.normpath(os.path.join(cwd, name)) if cwd and not name.startswith("/") else name


def _processes(event: Event) -> dict[str, list[Any]]:
    pids = [r["pid"] for r in event["records"] if "pid" in r] + [r["opid"] for r in event["records"] if "opid" in r]
    contids = [event["contid"], *(target["contid"] for target in event.get("targets", ()))]
    return {"pid": pids, "contid": ["unset" if one is None else "unknown" if one == "?" else one for one in contids]}
