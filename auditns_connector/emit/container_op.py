"""CONTAINER_OP and the NS_INFO that goes with a set, as text."""

from typing import TYPE_CHECKING

from auditns_connector.audittext import own_records as text
from auditns_connector.model.outputs import ContainerOp
from auditns_connector.vocabulary.values import Json

if TYPE_CHECKING:
    from auditns_connector.model.apply.dispatch import Model


def container_op(model: "Model", output: ContainerOp, numeric: bool) -> bytes:
    """The lines of one event: CONTAINER_OP, and NS_INFO of the first process where there is one."""
    caller = output.caller
    fields = [
        f"{name}={caller[name]}"
        for name in ("pid", "auid", "uid", "tty", "ses")
        if caller.get(name) is not None and caller.get(name) != ""
    ]
    subj = caller.get("subj")
    if subj:
        # a label is printed as it is, unless it holds what would break the record
        plain = str(subj).isascii() and str(subj).isprintable() and not set(str(subj)) & set(" \"'")
        raw = str(subj).encode("utf-8", "surrogateescape")
        fields.append(f"subj={subj if plain else text.encode_untrusted(raw).decode()}")
    line = text.container_op(
        output.op,
        output.opid,
        output.contid,
        output.old,
        numeric,
        caller=" ".join(fields),
        comm=_bytes(caller.get("comm")),
        exe=_bytes(caller.get("exe")),
        error=output.error or None,
        run=output.run or None,
    )
    if output.nsset is not None:
        serial = model.namespaces.serial
        insts = output.nsset.inst
        line += text.ns_info(
            [None if inst is None else serial(inst) for inst in insts],
            None,
            numeric,
            inodes=[None if inst is None else inst.ino for inst in insts],
            dev=next((inst.dev for inst in insts if inst is not None and inst.dev), model.namespaces.dev),
        )
    return line


def _bytes(value: Json) -> bytes | None:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) and value else None
