"""What an output of the model is about: the type of its record, and whose it is."""

from typing import Any, Final

from auditns_connector.model.outputs import ContainerInfo, ContainerOp, NsChange, NsDel, NsInit, NsLeft
from auditns_connector.model.process import State
from auditns_connector.vocabulary import record_types as rectypes

#: what is filtered by its record type
KINDS: Final[dict[type, int]] = {
    NsInit: rectypes.NS_INIT,
    NsChange: rectypes.NS_CHANGE,
    NsLeft: rectypes.NS_CHANGE,
    NsDel: rectypes.NS_DEL,
    ContainerOp: rectypes.CONTAINER_OP,
    ContainerInfo: rectypes.CONTAINER_INFO,
}


def state_of(output: Any) -> State | None:
    """The state of the process that ``output`` is about; ``None`` where it is about none."""
    if not isinstance(output, ContainerOp):
        return getattr(output, "state", None)
    if output.error == "ESRCH":
        return None
    # not the identifier that was asked for: after a refusal the process is still where it was
    return State(output.time, output.container, None, "")
