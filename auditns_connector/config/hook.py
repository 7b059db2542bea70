"""``[hook]`` of the configuration: what is expected of the hook that container runtimes call."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from auditns_connector.config.readers import Reader, strings
from auditns_connector.model.runtimes import BY_NAME


class HookOptions(NamedTuple):
    """``expect``: runtimes whose containers are all to be registered."""

    expect: tuple[str, ...] = ()


SCHEMA: Final[Mapping[str, Reader]] = {
    "expect": strings(f"runtimes ({', '.join(BY_NAME)})", lambda word: word in BY_NAME)
}
