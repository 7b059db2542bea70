"""The audit rules that ``--rules`` lends: loaded while a program runs, taken away when it ends.

A lease appends one rule an ABI (execve, execveat, unshare, setns; never clone or fork: the kernel's process
events tell those) behind the administrator's rules, so that those match first and keep their keys, and switches
auditing on when it is off. With no auditd to read the kernel's queue at its own setting, a short queue
(``backlog_limit``) would stall every audited process of the host; the lease lengthens it for as long.

What was changed is written to a state file *before* it is changed: rules added (never those that were there
already), ``enabled`` and ``backlog_limit`` as they were. Closing takes back exactly that. After a SIGKILL the
next start, with a lease (:meth:`RuleLease.acquire`) or without (:func:`take_back_leftovers`), finds the file, sees
that no holder lives, and takes it back then. Several programs may hold the lease at once; the last one to close
restores.
"""

import json
import os
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final, Self

from auditns_connector.auditrules import codec as auditrule
from auditns_connector.auditrules.codec import AuditStatus
from auditns_connector.auditrules.hints import Hint, boot_tool, hints
from auditns_connector.auditrules.netlink import LOCKED_MESSAGE, AuditControl, LoadedRules
from auditns_connector.errors import AuditnsError, DecodeError, LockedError, NotSupportedError
from auditns_connector.state.directory import SafeDir
from auditns_connector.state.paths import RUN_DIR
from auditns_connector.vocabulary.values import Json, JsonObject

KEY: Final = "auditns"
STATE_PATH: Final = f"{RUN_DIR}/rules.json"
BACKLOG_LIMIT: Final = 8192
_VERSION: Final = 1


def take_back_leftovers(state_path: str = STATE_PATH) -> list[str]:
    """For a start that loads no rules: take back what a killed run left behind; what a user should know."""
    if not os.path.lexists(state_path):
        return []
    try:
        with AuditControl() as control:
            lease = RuleLease(control, state_path=state_path)
            lease.take_back()
            return lease.notices
    except AuditnsError as error:
        return [str(error)]


class RuleLease:
    """See the module's text. ``notices`` tells what a user should know; fill it by :meth:`acquire`.
    ``backlog_limit``: the least the kernel's queue shall hold while the lease is held; 0 leaves it alone.
    """

    def __init__(
        self,
        control: AuditControl | None = None,
        *,
        state_path: str = STATE_PATH,
        key: str = KEY,
        backlog_limit: int = BACKLOG_LIMIT,
        machine: str | None = None,
        proc: str = "/proc",
    ) -> None:
        self.notices: list[str] = []
        self._control = AuditControl() if control is None else control
        self._directory, self._name = os.path.split(os.path.abspath(state_path))
        self._rules = auditrule.our_rules(os.uname().machine if machine is None else machine, key)
        self._backlog_limit = backlog_limit
        self._proc = proc
        self._held = False
        #: another program was about to change the rules when they were to be looked at: :meth:`ensure` again
        self.unsure = False
        self.found_off = False  #: auditing was off when :meth:`acquire` came: what was done before has no event
        #: the state as last written: somebody may take the file away
        self._written: JsonObject | None = None

    def acquire(self) -> None:
        """Load the rules and switch auditing on. Raises :class:`NotSupportedError` where the configuration is
        immutable and lacks our rules, :class:`NotPermittedError` without the privilege; then nothing is changed."""
        with SafeDir(self._directory) as directory, directory.locked(self._name + ".lock"):
            state = self._read(directory)
            holders = self._living(state)
            status = self._control.status()
            self.found_off = status.enabled == auditrule.ENABLED_OFF
            if status.enabled == auditrule.ENABLED_LOCKED:
                loaded = self._control.list_rules()
                if not all(rule in loaded for rule in self._rules):
                    raise NotSupportedError(LOCKED_MESSAGE)
                self.notices.append("the audit configuration is immutable and holds the rules already")
                return
            if not holders:
                if state is not None:
                    self._take_back(directory, state)
                    status = self._control.status()
                state = {
                    "version": _VERSION,
                    "boot_id": self._boot_id(),
                    "rules": [],
                    "enabled": None,
                    "backlog_limit": None,
                    "auditd": status.pid,
                }
            assert state is not None
            state["holders"] = [*holders, self._myself()]
            self.notices += [hint.text + (f" – {hint.remedy}" if hint.remedy else "") for hint in self._hints(status)]
            try:
                self._apply(directory, state, LoadedRules(self._control.list_rules(), status))
            except BaseException:
                self.notices += self._leave(directory)
                raise
            self._held = True

    def take_back(self) -> None:
        """Take back what a killed run left behind, where no holder lives. Raises :class:`AuditnsError`."""
        with SafeDir(self._directory) as directory, directory.locked(self._name + ".lock"):
            state = self._read(directory)
            if state is not None and not self._living(state):
                self._take_back(directory, state)

    def _take_back(self, directory: SafeDir, state: JsonObject) -> None:
        troubles = self._restore(state, "left behind by a killed run")
        if troubles:
            raise AuditnsError("cannot take back what a killed run left behind: " + "; ".join(troubles))
        directory.remove(self._name)

    def _hints(self, status: AuditStatus) -> list[Hint]:
        try:
            with open(f"{self._proc}/cmdline", encoding="utf-8", errors="replace") as file:
                cmdline = file.read()
        except OSError:
            cmdline = ""
        return hints(status, self._control.list_rules(), cmdline, boot_tool())

    def _apply(self, directory: SafeDir, state: JsonObject, loaded: LoadedRules) -> None:
        """Change what is not yet so, each change written down first."""
        status = loaded.status
        missing = [rule for rule in self._rules if rule not in loaded.rules]
        state["rules"] = sorted({*state["rules"], *(rule.hex() for rule in missing)})
        if status.enabled == auditrule.ENABLED_OFF and state["enabled"] is None:
            state["enabled"] = status.enabled
        # 0 means no limit at all
        longer = 0 < status.backlog_limit < self._backlog_limit
        if longer and state["backlog_limit"] is None:
            state["backlog_limit"] = [status.backlog_limit, self._backlog_limit]
        directory.write(self._name, json.dumps(state).encode() + b"\n")
        self._written = state
        if longer:
            self.notices.append(
                f"the kernel's audit queue is lengthened from {status.backlog_limit} to {self._backlog_limit} records "
                "while this runs"
            )
            self._control.set_backlog_limit(self._backlog_limit)
        for rule in missing:
            self._control.add_rule(rule)
        if status.enabled == auditrule.ENABLED_OFF:
            self._control.set_enabled(auditrule.ENABLED_ON)

    def ensure(self, loaded: LoadedRules) -> list[str]:
        """Load again what somebody removed meanwhile (``auditctl -D``, a reload of rules), where it is not among what
        is ``loaded``; messages about it. Auditing that was switched off stays off: that is said, and was meant. The
        kernel is asked nothing; changes it takes at once. Raises as :meth:`acquire`, and :class:`LockedError` where
        that is to be asked for again later: nobody is waited for."""
        if not self._held:
            return []
        try:
            with SafeDir(self._directory) as directory, directory.locked(self._name + ".lock", wait=0.0):
                self.unsure = False
                return self._load_again(directory, loaded)
        except LockedError:
            self.unsure = True
            raise

    def _load_again(self, directory: SafeDir, loaded: LoadedRules) -> list[str]:
        if loaded.status.enabled == auditrule.ENABLED_OFF:
            return ["somebody has switched auditing off (auditctl -e 0): no events come until it is on again"]
        missing = sum(rule not in loaded.rules for rule in self._rules)
        state = self._read(directory) if missing else None
        if state is None:
            return []
        if loaded.status.enabled == auditrule.ENABLED_LOCKED:
            raise NotSupportedError(LOCKED_MESSAGE)
        self._apply(directory, state, loaded)
        return [f"somebody has removed {missing} of our audit rules; they are loaded again"]

    def close(self) -> list[str]:
        """Take back what was changed; returns what could not be restored, and why. Safe to call twice."""
        if not self._held:
            return []
        self._held = False
        try:
            with SafeDir(self._directory) as directory, directory.locked(self._name + ".lock"):
                return self._leave(directory)
        except LockedError as error:
            return [f"{error}: what was changed is taken back by the next program of ours that starts"]
        except AuditnsError as error:  # the file is out of reach: what it said is known, and who else came since is not
            return [str(error), *(self._restore(self._written, "") if self._written is not None else [])]

    def _leave(self, directory: SafeDir) -> list[str]:
        me = self._myself()
        state = self._read(directory)
        if state is None or me not in state["holders"]:
            state = self._with_written(state)
        if state is None:
            return []
        state["holders"] = self._living(state)
        if me in state["holders"]:
            state["holders"].remove(me)
        if state["holders"]:
            directory.write(self._name, json.dumps(state).encode() + b"\n")
            return []
        troubles = self._restore(state, "")
        if not troubles:
            directory.remove(self._name)
        return troubles

    def _with_written(self, state: JsonObject | None) -> JsonObject | None:
        """``state`` of whoever came after the file was taken away, and what this lease had changed before."""
        if state is None or self._written is None:
            return self._written
        state["rules"] = sorted({*state["rules"], *self._written["rules"]})
        for name in ("enabled", "backlog_limit"):
            if state[name] is None:
                state[name] = self._written[name]
        return state

    def _restore(self, state: JsonObject, why: str) -> list[str]:
        """Undo what ``state`` says was done, as far as it is still so."""
        troubles: dict[str, None] = {}  # in order, each once

        def attempt(step: Callable[[], object]) -> bool:
            try:
                return step() is not False
            except AuditnsError as error:
                troubles[str(error)] = None
                return False

        status = self._control.status()
        removed = sum(attempt(partial(self._control.delete_rule, bytes.fromhex(text))) for text in state["rules"])
        # an auditd started meanwhile wants auditing on; whoever set another queue length meant it
        if state["enabled"] is not None and status.enabled == auditrule.ENABLED_ON:
            if status.pid in (0, state["auditd"]):
                attempt(partial(self._control.set_enabled, state["enabled"]))
            else:
                self.notices.append("auditing is left switched on: an auditd has been started meanwhile")
        if state["backlog_limit"] is not None:
            former, ours = state["backlog_limit"]
            if status.backlog_limit == ours:
                attempt(partial(self._control.set_backlog_limit, former))
        if why and removed:
            self.notices.append(f"removed {removed} audit rules {why}")
        return list(troubles)

    def _read(self, directory: SafeDir) -> JsonObject | None:
        """The state file, checked; None when there is none, or it is of another boot (whose rules are gone)."""
        data = directory.read(self._name)
        if data is None:
            return None
        try:
            state = _checked(json.loads(data))
        except (ValueError, RecursionError, DecodeError) as error:
            raise AuditnsError(
                f"{self._directory}/{self._name} is damaged ({error}): remove it, and the rules of key {KEY!r} "
                f"(auditctl -D -k {KEY})"
            ) from error
        if state["boot_id"] != self._boot_id():
            directory.remove(self._name)
            return None
        return state

    def _living(self, state: JsonObject | None) -> list[list[int]]:
        if state is None:
            return []
        return [holder for holder in state["holders"] if self._start_of(holder[0]) == holder[1]]

    def _myself(self) -> list[int]:
        return [os.getpid(), self._start_of(os.getpid())]

    def _start_of(self, pid: int) -> int:
        """Start time of a living process in ticks since boot (proc(5), stat field 22); -1 when it is gone."""
        try:
            with open(f"{self._proc}/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return -1
        return -1 if fields[0] in (b"Z", b"X") else int(fields[19])

    def _boot_id(self) -> str:
        try:
            with open(f"{self._proc}/sys/kernel/random/boot_id", encoding="ascii") as file:
                return file.read().strip()
        except OSError as error:
            raise AuditnsError(f"cannot read the boot id: {error}") from error

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _checked(state: Json) -> JsonObject:
    """``state`` when it has the form this module writes; else :class:`DecodeError`."""

    def number(value: Json) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0

    def pair(value: Json) -> bool:
        return isinstance(value, list) and len(value) == 2 and all(map(number, value))

    if not isinstance(state, dict) or state.get("version") != _VERSION:
        raise DecodeError("not version 1")
    rules, holders = state.get("rules"), state.get("holders")
    if not isinstance(rules, list) or not all(isinstance(rule, str) for rule in rules):
        raise DecodeError("rules")
    for rule in rules:
        auditrule.parse_rule(bytes.fromhex(rule))
    if not isinstance(holders, list) or not all(map(pair, holders)):
        raise DecodeError("holders")
    if state.get("enabled") not in (None, 0) or not number(state.get("auditd")):
        raise DecodeError("enabled")
    if state.get("backlog_limit") is not None and not pair(state["backlog_limit"]):
        raise DecodeError("backlog_limit")
    if not isinstance(state.get("boot_id"), str):
        raise DecodeError("boot_id")
    return state
