"""The clock of one training among several that take turns at one machine.

It runs from ``start``, so preparing counts, and stands while the training is evaluated and while others train.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from facegen.losses.vae import kl_per_dim, reconstruction_error
from facegen.pixels import to_float, to_uint8

_BATCH_SIZE = 64


class Finished(BaseException):
    """Ends a training that is not asked to continue; not an Exception, which a trainer may handle."""


class Order(NamedTuple):
    """What a training is asked for; None in its place ends it."""

    until_sec: float
    """Train until the own clock has reached this, then report."""
    evaluate: bool
    with_images: bool
    """Whether an evaluation returns its reconstructions, too."""


class Facts(NamedTuple):
    """What a system trains."""

    parameters: int
    latent_size: int
    batch_size: int
    beta_eff: float | None
    """Weight of the KL in 1/2 SSE + beta_eff KL, with pixels in [-1, 1]; None without a KL."""


class Codec(NamedTuple):
    """A model that is ready for inference."""

    encode: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    """Mean and log variance (None without a posterior), N x L, of images N x C x H x W in [-1, 1]."""
    decode: Callable[[Tensor], Tensor]
    """Images in [-1, 1] of latents."""


class Autoencoder(NamedTuple):
    """A model in training."""

    facts: Facts
    prepare: Callable[[], Codec]
    """Puts it into eval mode; the clock runs, as this may take passes over the data. Its trainer puts it back."""


@dataclass
class Report:
    """Answers an order."""

    seconds: float
    """Of the training's own clock."""
    cpu_seconds: float
    """CPU time of its process in that time, all threads together."""
    images: int
    """Training images seen."""
    facts: Facts | None = None
    mse: float | None = None
    """Of held-out images from mu, the mean over their values in [-1, 1]; None without an evaluation."""
    kl: float | None = None
    """Nats an image."""
    evaluation_sec: float = 0.0
    reconstructions: np.ndarray | None = None
    """uint8, N x H x W x C."""
    ended: str = ""
    """Why there is no further report."""


class Turns:
    """Keeps a training's clock, and gives the machine to the others when its turn is over."""

    def __init__(self, connection: Connection, held_out: Tensor) -> None:
        """Takes orders from ``connection``; evaluates on ``held_out``, uint8 N x H x W x C."""
        self._connection = connection
        self._held_out = held_out
        self._seconds = self._cpu_seconds = 0.0
        self._wall_start = self._cpu_start = 0.0
        self._is_running = False
        self._images = 0
        self._order = Order(0.0, evaluate=False, with_images=False)

    def start(self) -> None:
        """Waits for the first order, and starts the clock."""
        self._wait()

    def __call__(self, images_seen: int, autoencoder: Autoencoder, is_last: bool = False) -> None:
        """Called before the first step and after every step; returns when training may go on.

        Args:
            images_seen: Training images so far.
            autoencoder: What has been trained.
            is_last: Reports in any case, as training has come to an end of its own.

        Raises:
            Finished: There is no further turn.
        """
        self._images = images_seen
        while is_last or self._now() >= self._order.until_sec:
            codec = autoencoder.prepare() if self._order.evaluate or is_last else None
            self._stop()
            report = self._report()
            report.facts = autoencoder.facts
            if codec:
                evaluate(codec, self._held_out, self._order.with_images, report)
            if is_last:
                report.ended = "trained for as long as its options say"
            self._connection.send(report)
            if is_last:
                return
            self._wait()

    def fail(self, reason: str) -> None:
        """Reports that training cannot continue."""
        self._stop()
        report = self._report()
        report.ended = reason
        self._connection.send(report)

    def _now(self) -> float:
        return self._seconds + time.perf_counter() - self._wall_start

    def _report(self) -> Report:
        return Report(self._seconds, self._cpu_seconds, self._images)

    def _wait(self) -> None:
        try:
            order = self._connection.recv()
        except EOFError:
            order = None
        if order is None:
            raise Finished
        self._order = order
        self._is_running = True
        self._wall_start, self._cpu_start = time.perf_counter(), time.process_time()

    def _stop(self) -> None:
        if not self._is_running:  # It failed in an evaluation, or before it started.
            return
        self._is_running = False
        self._seconds += time.perf_counter() - self._wall_start
        self._cpu_seconds += time.process_time() - self._cpu_start


@torch.inference_mode()
def evaluate(codec: Codec, images: Tensor, with_images: bool, report: Report) -> None:
    """Measures reconstructions from mu of uint8 images N x H x W x C, and fills in ``report``."""
    started_sec = time.perf_counter()
    errors, kls, reconstructions = [], [], []
    for part in images.split(_BATCH_SIZE):
        pixels = to_float(part)
        mu, logvar = codec.encode(pixels)
        decoded = codec.decode(mu)
        errors.append(reconstruction_error(pixels, decoded, "mean").double())
        if logvar is not None:
            kls.append(kl_per_dim(mu, logvar).sum(1).double())
        if with_images:
            reconstructions.append(to_uint8(decoded).numpy())
    report.mse = float(torch.cat(errors).mean())
    report.kl = float(torch.cat(kls).mean()) if kls else None
    report.reconstructions = np.concatenate(reconstructions) if reconstructions else None
    report.evaluation_sec = time.perf_counter() - started_sec
