"""The server of the labeling page: this machine only, these pictures only, answers durable before confirmed."""

from __future__ import annotations

import json
import math
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from shards.base.errors import UserError
from shards.images.reading import BadImage, open_image, to_mode
from shards.labeling.answers import Answer, AnswerLog
from shards.labeling.session import Session, check_subject

HOST = "127.0.0.1"
_PAGE = Path(__file__).parent / "page"
_FILES = {"/": "label.html", "/label.js": "label.js", "/label.css": "label.css"}
_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}
_NUM_UPCOMING = 4
_MAX_BODY_BYTES = 10_000
_MAX_SIDE = 1024


class Labeling:
    """The state that requests share: the session, the pictures, and a log for each subject. Thread-safe."""

    def __init__(self, images: Path, folder: Path, session: Session) -> None:
        """Opens nothing yet; a subject's log opens with the first request."""
        self.session = session
        self._images, self._folder = images, folder
        self._logs: dict[str, AnswerLog] = {}
        self._orders: dict[str, list[int]] = {}
        self._lock = threading.Lock()

    def state(self, subject: str) -> dict[str, Any]:
        """A subject's progress, and the pictures that come next."""
        log, order = self._open(subject)
        done = len(log.answers)
        upcoming = [{"trial": trial, "image": order[trial]} for trial in range(done, len(order))[:_NUM_UPCOMING]]
        return {"subject": subject, "done": done, "total": len(order), "upcoming": upcoming}

    def answer(self, subject: str, trial: int, smile: bool, rt_ms: float) -> bool:
        """Saves an answer; False if another trial is next."""
        log, order = self._open(subject)
        if not 0 <= trial < len(order):
            return False
        return log.add(Answer(trial, self.session.files[order[trial]], smile, rt_ms))

    def undo(self, subject: str) -> bool:
        """Takes a subject's last answer back."""
        return self._open(subject)[0].undo()

    def picture(self, number: int) -> bytes:
        """A picture as JPEG, upright, without the file's metadata.

        Raises:
            IndexError: No such picture.
            BadImage: It cannot be read now.
        """
        if number < 0:
            raise IndexError(number)
        image = to_mode(open_image(self._images / self.session.files[number]), "RGB")
        image.thumbnail((_MAX_SIDE, _MAX_SIDE))
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=95, subsampling=0)
        return buffer.getvalue()

    def close(self) -> None:
        """Closes the logs."""
        for log in self._logs.values():
            log.close()

    def _open(self, subject: str) -> tuple[AnswerLog, list[int]]:
        check_subject(subject)
        with self._lock:
            if subject not in self._logs:
                self._logs[subject] = AnswerLog(self._folder, subject)
                self._orders[subject] = self.session.order(subject)
            return self._logs[subject], self._orders[subject]


def make_server(labeling: Labeling, port: int) -> ThreadingHTTPServer:
    """A server on the loopback address, which no other machine can reach.

    Args:
        labeling: What to serve.
        port: 0 takes a free one.

    Raises:
        UserError: The port is taken.
    """

    class Handler(_Handler):
        pass

    Handler.labeling = labeling
    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise UserError(f"port {port} cannot be used ({error.strerror}); give another --port, or 0 for any.") from None
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    labeling: Labeling
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self._is_local():
            return
        url = urlsplit(self.path)
        if url.path in _FILES:
            file = _PAGE / _FILES[url.path]
            self._send(HTTPStatus.OK, file.read_bytes(), _TYPES[file.suffix])
        elif url.path == "/api/state":
            self._answer_json(lambda: self.labeling.state(parse_qs(url.query).get("subject", [""])[0]))
        elif url.path.startswith("/images/") and url.path[8:].isdecimal():
            try:
                self._send(HTTPStatus.OK, self.labeling.picture(int(url.path[8:])), "image/jpeg", cache=True)
            except (IndexError, BadImage):
                self._error(HTTPStatus.NOT_FOUND, "There is no such picture.")
        else:
            self._error(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def do_POST(self) -> None:
        if not self._is_local():
            return
        # A page of another site cannot send this type without a preflight request, which is not answered.
        if self.headers.get_content_type() != "application/json":
            self._error(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send JSON.")
            return
        try:
            body = json.loads(self.rfile.read(min(int(self.headers["Content-Length"]), _MAX_BODY_BYTES)))
            subject = str(body["subject"])
            if self.path == "/api/undo":
                self._answer_json(lambda: self._after(self.labeling.undo(subject), subject))
            elif self.path == "/api/answer":
                trial, smile, rt_ms = body["trial"], body["smile"], float(body["rt_ms"])
                if not (isinstance(trial, int) and isinstance(smile, bool) and 0 <= rt_ms < math.inf):
                    raise ValueError
                self._answer_json(lambda: self._after(self.labeling.answer(subject, trial, smile, rt_ms), subject))
            else:
                self._error(HTTPStatus.NOT_FOUND, "There is nothing here.")
        except (ValueError, KeyError, TypeError):
            self._error(HTTPStatus.BAD_REQUEST, "The answer is malformed.")

    def _after(self, kept: bool, subject: str) -> dict[str, Any]:
        return self.labeling.state(subject) | {"kept": kept}

    def _answer_json(self, make: Any) -> None:
        try:
            content = make()
        except UserError as error:
            self._error(HTTPStatus.BAD_REQUEST, str(error))
        except OSError as error:  # Such as a full disk: the page keeps the answer and retries.
            self._error(HTTPStatus.INTERNAL_SERVER_ERROR, f"The answer could not be saved ({error.strerror}).")
        else:
            self._send(HTTPStatus.OK, json.dumps(content).encode(), "application/json")

    def _is_local(self) -> bool:
        """Refuses requests under a foreign host name, by which another site could read answers (DNS rebinding)."""
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        if host in (HOST, "localhost"):
            return True
        self._error(HTTPStatus.FORBIDDEN, "Open the address that the command printed.")
        return False

    def _error(self, status: HTTPStatus, message: str) -> None:
        # The request body may be partly unread and would be taken for the next request.
        self.close_connection = True
        self._send(status, json.dumps({"error": message}).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str, cache: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "private, max-age=3600" if cache else "no-store")
        self.send_header("Content-Security-Policy", "default-src 'self'; img-src 'self' blob: data:")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Logs nothing: the terminal shows only what matters."""
