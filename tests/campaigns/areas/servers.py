"""The studio and the labeling page, over real connections: hostile requests, then a good one that must be answered."""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
from pathlib import Path
from typing import Any

from PIL import Image

from eval.studio.server.app import make_app
from eval.studio.studio import Studio
from shards.labeling.label_app import make_label_app
from shards.labeling.session import open_session
from shards.labeling.subjects import Labeling
from shards.serving.server import LOOPBACK, listen, make_server
from tests.campaigns.area import Area, Case, Change
from tests.campaigns.areas.runs import OLD
from tests.campaigns.http_requests import REQUESTS, draw_request, receive, request_bytes, status_of, whole_request


class Servers(Area):
    """A studio over an old run and a labeling of six pictures."""

    title = "label page, studio"
    uses = ("studio", "studio", "label")

    def __init__(self, home: Path, bait: Path) -> None:
        """Starts both."""
        super().__init__(home, bait)
        self.writes = (home,)
        images = home / "images"
        images.mkdir()
        for number in range(6):
            Image.new("RGB", (24, 24), (40 * number, 90, 200)).save(images / f"face{number}.png")
        session = open_session(home / "labeling", images, 0, 0.0)
        studio = Studio([str(OLD / "run")], str(OLD / "dataset"))
        for run in studio.runs.values():
            run.sliders.wait()
        apps = {"studio": make_app(studio), "label": make_label_app(Labeling(images, home / "labeling", session))}
        self._servers = {name: make_server(app) for name, app in apps.items()}
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # Each broken request is worth a warning.
        sockets = {name: listen(LOOPBACK, 0) for name in apps}
        self._ports = {name: listening.getsockname()[1] for name, listening in sockets.items()}
        for name, server in self._servers.items():
            threading.Thread(target=server.run, kwargs={"sockets": [sockets[name]]}, daemon=True).start()
        while not all(server.started for server in self._servers.values()):
            time.sleep(0.01)

    def draw(self, rng: random.Random, use: str) -> list[Change]:
        """One or two requests."""
        return [draw_request(rng, use, self._ports[use]) for _ in range(rng.choice((1, 1, 2)))]

    def use(self, folder: Path, case: Case) -> dict[str, Any]:
        """Sends the requests, then a good one; returns the status of each and a digest of the last answer."""
        port = self._ports[case.use]
        statuses = [
            status_of(receive(port, request_bytes(case.use, change, port), change.kind)) for change in case.changes
        ]
        method, path, body = REQUESTS[case.use][0 if case.use == "studio" else 3]
        answer = receive(port, whole_request(method, path, body, port), "good")
        head, _, content = answer.partition(b"\r\n\r\n")
        good = {"status": head.split(b" ", 2)[1:2], "content": hashlib.sha256(content).hexdigest()}
        return {"statuses": statuses, **good}

    def accepts(self, good: Any, found: Any, said: str, case: Case) -> bool:
        """Every request has an answer that is not the server's fault, or a closed connection; the good one is right."""
        is_alive = {**found, "statuses": []} == {**good, "statuses": []}
        return is_alive and all(status is None or 100 <= status < 500 for status in found["statuses"])

    def close(self) -> None:
        """Stops both."""
        for server in self._servers.values():
            server.should_exit = True
