"""Puts the launch files of jobs/ into the package; pyproject.toml says everything else about it."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithLaunchFiles(build_py):
    """Copies jobs/ to where ``facegen.processes.launch_files`` looks for it; others find jobs/ itself."""

    def run(self) -> None:
        """Called by setuptools."""
        super().run()
        if not self.editable_mode:
            shutil.copytree("jobs", Path(self.build_lib, "facegen", "launch_files"), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithLaunchFiles})
