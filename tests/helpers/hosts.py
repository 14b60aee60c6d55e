"""Two hosts on one machine: network namespaces joined by a virtual cable (veth). Needs root and `ip`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOSTS = {"facegen0": "10.213.7.1", "facegen1": "10.213.7.2"}


def ip(*arguments: str) -> None:
    """Runs ``ip``."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def can_make_hosts() -> bool:
    """Whether this user may make network namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    probe = subprocess.run(["ip", "netns", "add", "facegen-probe"], capture_output=True)
    subprocess.run(["ip", "netns", "delete", "facegen-probe"], capture_output=True)
    return probe.returncode == 0


@contextmanager
def two_hosts() -> Iterator[None]:
    """Two namespaces; each sees only its end of the cable and the loopback."""
    try:
        for name in HOSTS:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)  # Of a killed run.
            ip("netns", "add", name)
        ip("link", "add", "cable0", "netns", "facegen0", "type", "veth", "peer", "name", "cable1", "netns", "facegen1")
        for number, (name, address) in enumerate(HOSTS.items()):
            ip("-n", name, "address", "add", f"{address}/24", "dev", f"cable{number}")
            ip("-n", name, "link", "set", f"cable{number}", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in HOSTS:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def host_launch(number: int, *script: str | Path) -> tuple[list[str], dict[str, str]]:
    """The documented line of one machine, and the variables that it needs."""
    name = list(HOSTS)[number]
    command = ["ip", "netns", "exec", name, sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(ROOT / "jobs" / "accelerate" / "cpu_nodes.yaml"), "--machine_rank", str(number)]
    command += ["--main_process_ip", HOSTS["facegen0"], "--main_process_port", "29517", *map(str, script)]
    return command, {"GLOO_SOCKET_IFNAME": f"cable{number}"}
