"""Starts processes with ``accelerate launch``, and ends a training with its launcher. Imports nothing heavy."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from facegen.processes.launch_files import accelerate_config

_CONFIG = "--config_file"


def stop_with_launcher() -> None:
    """Asks the kernel (Linux) for SIGTERM when the launcher dies; a run that trains then saves, any other just ends."""
    if sys.platform == "linux" and any(name.startswith("ACCELERATE_") for name in os.environ):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG.


def launch(options: str, script: Path, arguments: Sequence[str]) -> None:
    """Becomes ``accelerate launch OPTIONS SCRIPT ARGUMENTS``, and exits as it does.

    Args:
        options: As a shell splits them. ``--config_file`` also takes the name of a shipped launch file. Without it, and
            without a default of ``accelerate config``, CPUs take the shipped file for several processes: accelerate
            itself would silently start a single one.
        script: A program by its path, which needs nothing of the current folder.
        arguments: The program's own.
    """
    from accelerate.commands.config.config_args import default_config_file
    from accelerate.commands.launch import main

    words = [part for word in shlex.split(options) for part in _split(word)]
    if _CONFIG in words[:-1]:
        position = words.index(_CONFIG) + 1
        words[position] = accelerate_config(words[position])
    elif not os.path.isfile(default_config_file) and not _has_accelerator():
        words = [_CONFIG, accelerate_config("cpu_processes"), *words]
    sys.argv = ["accelerate launch", *words, str(script), *arguments]
    main()


def _split(word: str) -> list[str]:
    return word.split("=", 1) if word.startswith(f"{_CONFIG}=") else [word]


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()
