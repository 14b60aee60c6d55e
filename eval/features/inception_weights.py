"""Finds FID's Inception weights: a given file, torch-fidelity's cached download, or the download itself."""

from __future__ import annotations

import threading
import urllib.request
from pathlib import Path

import torch

from facegen.perceptual.torchvision_ops import make_torchvision_importable
from shards.base.errors import UserError
from shards.downloads.download import download

INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
CONNECT_TIMEOUT_SEC = 10.0


def find_inception_weights(choice: str) -> tuple[Path | None, str]:
    """Finds the file of weights.

    Args:
        choice: ``auto`` (the cached file, else a download), ``none``, or the path of a file.

    Returns:
        The file; or None and a sentence that says why, and how to get the weights.
    """
    if choice == "none":
        return None, "not computed: --fid_weights none."
    if choice != "auto":
        return Path(choice), ""
    url, cached = inception_source()
    if cached.is_file():
        return cached, ""
    advice = f"not computed: download {url} on a machine with a network and give the file as --fid_weights FILE."
    if not is_reachable(url):
        return None, advice
    return (cached, "") if _download(url, cached) else (None, advice)


def is_reachable(url: str, timeout_sec: float = CONNECT_TIMEOUT_SEC) -> bool:
    """Whether the address answers in time.

    Asks in a thread of its own: a name lookup has no timeout and would hold up the whole report.
    """
    answers: list[bool] = []

    def probe() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=timeout_sec):
                answers.append(True)
        except OSError:
            answers.append(False)

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(timeout_sec)
    return bool(answers and answers[0])


def inception_source() -> tuple[str, Path]:
    """The address of the weights, and their place in torch's hub cache, where torch-fidelity looks for them."""
    make_torchvision_importable()  # torch-fidelity imports it.
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3 as url

    return url, Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def _download(url: str, destination: Path) -> bool:
    try:
        download(url, destination, INCEPTION_SHA256)
    except UserError:
        return False
    return True
