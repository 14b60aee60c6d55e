"""The trainings that are compared, and the process in which each of them runs."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch

from shards.base.places import CACHE_VARIABLE
from time_to_quality import our_trainer, pythae_trainer, pytorch_vae
from time_to_quality.setup import Setup
from time_to_quality.turns import Finished, Turns

Peer = Callable[[bool, bool, Setup, Turns], None]
"""Trains with our network or the published one, and with our KL weight or the published one."""


class System(NamedTuple):
    """A training that takes part."""

    about: str
    train: Callable[[Setup, Turns], None]
    is_our_trainer: bool = False
    """Whether it reads the packed data set, not an array of images."""
    uses_ours: bool = False
    """Whether another trainer takes our network or our KL weight."""
    missing: str = ""
    """Why it cannot take part on this machine."""


def _ours(setup: Setup, turns: Turns) -> None:
    our_trainer.train("ours", setup.ours, setup, turns)


def _old(setup: Setup, turns: Turns) -> None:
    our_trainer.train("old", setup.old, setup, turns)


def _peers(name: str, trainer: str, train: Peer, missing: str = "") -> dict[str, System]:
    """A trainer with its published network, with our KL weight as well, and with our network and KL weight."""
    variants = {
        name: (f"{trainer}, published network and settings", False, False),
        f"{name}_kl": (f"{trainer}, published network, our KL weight", False, True),
        f"{name}_net": (f"{trainer}, our network and KL weight", True, True),
    }
    return {
        key: System(about, partial(train, our_network, our_kl), uses_ours=our_kl, missing=missing)
        for key, (about, our_network, our_kl) in variants.items()
    }


SYSTEMS: dict[str, System] = {
    "ours": System("this project", _ours, is_our_trainer=True),
    "old": System("this project, network of release 0.1", _old, is_our_trainer=True),
    **_peers("pythae", "pythae", pythae_trainer.train, "" if pythae_trainer.is_installed() else pythae_trainer.MISSING),
    **_peers("pytorch_vae", "PyTorch-VAE's loop", pytorch_vae.train),
}


def work(name: str, setup: Setup, connection: Connection) -> None:
    """Trains one system in this process, turn by turn; what it prints goes to a file."""
    log = os.open(setup.folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    torch.set_num_threads(setup.threads)
    # Principal components that another process has cached would take no time.
    os.environ[CACHE_VARIABLE] = str(setup.folder / f"{name}_cache")
    turns = Turns(connection, setup.held_out())
    with contextlib.suppress(Finished):
        try:
            SYSTEMS[name].train(setup, turns)
        except Exception as error:  # One that fails is a result, too; the others continue.
            traceback.print_exc()
            turns.fail(str(error).strip().rpartition("\n")[2] or type(error).__name__)
