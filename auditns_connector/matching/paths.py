"""Paths as a search means them. Pure."""

import os


def normal(path: str) -> str:
    """Without what leads nowhere: ``//``, ``/./``, ``x/..``, a slash at the end. ``cdefs/archive/paths.c`` says the
    same of what it indexes."""
    found = os.path.normpath(path)
    return found[1:] if found.startswith("//") else found  # POSIX leaves open what two slashes mean: Linux does not


def joined(base: str | None, name: str) -> str:
    """The path of ``name`` for who is in the directory ``base``."""
    return normal(os.path.join(base, name) if base else name)
