"""The kernel tier's own tools: what they promise to put back, they put back."""

import pytest

from tests.kernel import support


def test_audit_state_is_restored_after_a_failure(root: None, token: str) -> None:
    support.need_tool("auditctl")
    key = f"auditns-test-{token}"
    with pytest.raises(RuntimeError), support.audit_state() as before:  # noqa: PT012 - all of it is the point
        support.auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "acct", "-k", key)
        support.auditctl("-b", str(int(before.settings["backlog_limit"]) + 1))
        assert key in support.auditctl("-l")
        raise RuntimeError("a test fails here")
    with support.kernel_lock():
        assert support.AuditState.read() == before


def test_a_missing_prerequisite_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(support.FORCE_VARIABLE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="a flying carpet"):
        support.need(False, "a flying carpet")


def test_a_missing_prerequisite_fails_when_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(support.FORCE_VARIABLE, "1")
    with pytest.raises(pytest.fail.Exception, match="a flying carpet"):
        support.need(False, "a flying carpet")
