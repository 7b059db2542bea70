"""The one table of system calls, against the tables of the audit tools."""

import shutil
import subprocess

import pytest

from auditns_connector.auditrules import codec
from auditns_connector.vocabulary import syscalls

#: our arch -> ausyscall's name of it; the newer ones it has not
LISTED = {
    "x86_64": syscalls.X86_64, "i386": syscalls.I386, "aarch64": syscalls.AARCH64, "arm": syscalls.ARM,
    "ppc64": syscalls.PPC64, "ppc64le": syscalls.PPC64LE, "s390x": syscalls.S390X, "s390": syscalls.S390,
}  # fmt: skip


@pytest.mark.parametrize("name", LISTED)
def test_the_numbers_are_the_audit_tools(name: str) -> None:
    if not shutil.which("ausyscall"):
        pytest.skip("no ausyscall")
    done = subprocess.run(["ausyscall", name, "--dump"], capture_output=True, text=True, check=True)
    listed = {call: int(number) for number, call, *_ in map(str.split, done.stdout.splitlines()[1:])}
    ours = syscalls.NUMBERS[LISTED[name]]
    if len(listed) < 10:
        pytest.skip(f"this ausyscall knows no {name}")
    assert ours == {call: listed[call] for call in ours}
    every = {call for table in syscalls.NUMBERS.values() for call in table}
    assert not every - set(ours) & set(listed)


def test_generic_numbers_are_those_of_all_that_have_them() -> None:
    generic = [syscalls.NUMBERS[arch] for arch in (syscalls.AARCH64, syscalls.RISCV64, syscalls.LOONGARCH64)]
    assert generic[0] == generic[1] == generic[2]


def test_arches_are_linux_audit_h() -> None:
    assert (syscalls.X86_64, syscalls.I386, syscalls.AARCH64) == (0xC000003E, 0x40000003, 0xC00000B7)
    assert (syscalls.ARM, syscalls.RISCV64, syscalls.LOONGARCH64) == (0x40000028, 0xC00000F3, 0xC0000102)
    assert (syscalls.PPC64, syscalls.PPC64LE, syscalls.S390X, syscalls.S390) == (
        0x80000015, 0xC0000015, 0x80000016, 0x00000016,
    )  # fmt: skip


def test_an_exec_has_a_number_in_each_abi() -> None:
    assert set(syscalls.EXECS) == set(syscalls.NUMBERS)
    assert syscalls.EXECS[syscalls.X86_64] == {59, 322, 0x40000208, 0x40000221}  # x32 says the same arch
    assert syscalls.EXECS[syscalls.I386] == {11, 358}
    assert syscalls.EXECS[syscalls.RISCV64] == {221, 281}


@pytest.mark.parametrize("machine", syscalls.MACHINES)
def test_rules_ask_for_the_same_calls_in_each_abi_of_a_machine(machine: str) -> None:
    first, *others = syscalls.MACHINES[machine]
    assert [set(table) for table in codec.ARCHES[machine].values()] == [set(codec.SYSCALLS)] * (1 + len(others))
    assert syscalls.is_64bit(first) or not others
