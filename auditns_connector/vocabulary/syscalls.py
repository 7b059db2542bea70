"""System calls by their numbers: the one table of those that anything here asks for.

Columns are the AUDIT_ARCH_* values (include/uapi/linux/audit.h) that a SYSCALL record has as ``arch=``; numbers are
those of each architecture's syscall table in the kernel tree, as ``ausyscall ARCH --dump`` prints them too. ``-``: the
architecture has no such call.
"""

from collections.abc import Iterable, Mapping
from typing import Final

_64: Final = 0x80000000
_LE: Final = 0x40000000

X86_64: Final = _64 | _LE | 62
I386: Final = _LE | 3
AARCH64: Final = _64 | _LE | 183
ARM: Final = _LE | 40
RISCV64: Final = _64 | _LE | 243
LOONGARCH64: Final = _64 | _LE | 258
PPC64: Final = _64 | 21
PPC64LE: Final = _64 | _LE | 21
S390X: Final = _64 | 22
S390: Final = 22

#: the columns: asm-generic/unistd.h is what the newer architectures have
_COLUMNS: Final = ((X86_64,), (I386,), (AARCH64, RISCV64, LOONGARCH64), (ARM,), (PPC64, PPC64LE), (S390X, S390))
_TABLE: Final = """
execve               59   11  221   11   11   11
execveat            322  358  281  387  362  354
unshare             272  310   97  337  282  303
setns               308  346  268  375  350  339
clone                56  120  220  120  120  120
clone3              435  435  435  435  435  435
fork                 57    2    -    2    2    2
vfork                58  190    -  190  189  190
getpid               39   20  172   20   20   20
getppid             110   64  173   64   64   64
gettid              186  224  178  224  207  236
getpgid             121  132  155  132  132  132
getpgrp             111   65    -   65   65   65
getsid              124  147  156  147  147  147
setsid              112   66  157   66   66   66
wait4                61  114  260  114  114  114
waitpid               -    7    -    -    7    -
kill                 62   37  129   37   37   37
tkill               200  238  130  238  208  237
tgkill              234  270  131  268  250  241
rt_sigqueueinfo     129  178  138  178  177  178
rt_tgsigqueueinfo   297  335  240  363  322  330
pidfd_send_signal   424  424  424  424  424  424
ptrace              101   26  117   26   26   26
openat              257  295   56  322  286  288
connect              42  362  203  283  328  362
bind                 49  361  200  282  327  361
"""
#: x32 processes say arch=c000003e; their numbers have this bit, and some calls have numbers of their own
_X32_BIT: Final = 0x40000000
_X32: Final = {"execve": _X32_BIT | 520, "execveat": _X32_BIT | 545}

#: arch -> name -> number
NUMBERS: Final[Mapping[int, Mapping[str, int]]] = {
    arch: {
        name: int(numbers[column])
        for name, *numbers in map(str.split, _TABLE.strip().splitlines())
        if numbers[column] != "-"
    }
    for column, arches in enumerate(_COLUMNS)
    for arch in arches
}
#: machine (``uname -m``) -> the arches that its kernel runs, the 64-bit one first
MACHINES: Final[Mapping[str, tuple[int, ...]]] = {
    "x86_64": (X86_64, I386),
    "i686": (I386,),
    "aarch64": (AARCH64, ARM),
    "armv7l": (ARM,),
    "riscv64": (RISCV64,),
    "loongarch64": (LOONGARCH64,),
    "s390x": (S390X, S390),
    "ppc64le": (PPC64LE,),
}


def is_64bit(arch: int) -> bool:
    """Whether ``arch`` (AUDIT_ARCH_*) is one of 64 bits."""
    return bool(arch & _64)


def by_arch(names: Iterable[str]) -> dict[int, frozenset[int]]:
    """arch -> the numbers of the calls ``names`` that it has."""
    wanted = tuple(names)
    return {arch: frozenset(table[name] for name in wanted if name in table) for arch, table in NUMBERS.items()}


#: calls that load another program
EXEC_CALLS: Final = ("execve", "execveat")
#: calls that move a task into other namespaces
NAMESPACE_CALLS: Final = ("unshare", "setns")
#: calls that return the number of a new task
CLONE_CALLS: Final = ("clone", "fork", "vfork", "clone3")
#: arch -> numbers of the calls that load another program, x32's with them
EXECS: Final[Mapping[int, frozenset[int]]] = {
    arch: numbers | (frozenset(_X32[name] for name in EXEC_CALLS) if arch == X86_64 else frozenset())
    for arch, numbers in by_arch(EXEC_CALLS).items()
}
