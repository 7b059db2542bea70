import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext


class BuildExt(build_ext):
    """Also builds the program that container runtimes call: it is a part of the package, beside the extension."""

    def run(self) -> None:
        super().run()
        package = Path("auditns_connector" if self.inplace else f"{self.build_lib}/auditns_connector")
        runpy.run_path("cdefs/build.py")["hook"](package / "libexec")


setup(cffi_modules=["cdefs/build.py:native"], cmdclass={"build_ext": BuildExt})
