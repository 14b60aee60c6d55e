"""What Ray needs to resume a sweep, kept by the sweep: pickles, and unpickling a planted one would run its code.

While a sweep runs, Ray's files are copied into one archive in the sweep's folder. The archive's digest is kept in the
user's cache, which a folder from elsewhere cannot bring along. A resumed sweep puts the archive's files in place of
whatever Ray's folder holds; an archive without a known digest is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

from pyarrow import fs

from shards.base.errors import UserError
from shards.base.files import make_folder, write_bytes, write_json, writing_to
from shards.base.formats import Format
from shards.base.places import CACHE_VARIABLE, cache_directory
from shards.base.plain_files import open_plain
from tuning.trials.sweep_plan import SweepPlan

EXPERIMENT = "sweep"
"""Ray's name of the sweep, and so of the folder of its files."""
SCHEDULER = "scheduler.state"
"""In the sweep's folder."""
ARCHIVE = "ray_state.zip"
_TUNER = "tuner.pkl"
_STATE = "experiment_state"
_RECORD = Format("record of a sweep", version=1)
_NUM_DIGESTS = 2
"""The newest and the one before: a kill may come between the record and the archive."""


class RayState:
    """The kept files of a sweep; only its driver uses them."""

    def __init__(self, plan: SweepPlan) -> None:
        """Reads nothing yet."""
        self._archive = plan.out / ARCHIVE
        self._scheduler = plan.out / SCHEDULER
        path, system = plan.ray_storage()
        self._root, self._system = f"{path}/{EXPERIMENT}", system or fs.LocalFileSystem()
        name = hashlib.sha256(str(plan.out).encode()).hexdigest()[:24]
        self._record = cache_directory() / "sweeps" / f"{name}.json"
        self._kept: dict[str, tuple[int, int]] = {}

    def exists(self) -> bool:
        """Whether a sweep has begun here; those of older releases have Ray's files only."""
        return os.path.lexists(self._archive) or _TUNER in self._rays_files()

    def begin(self) -> None:
        """Records that a sweep begins, of which Ray holds nothing yet.

        Raises:
            UserError: Nothing can be written there.
        """
        self._write({})

    def keep(self, staging: Path) -> None:
        """Copies Ray's files if they have changed.

        Args:
            staging: Where Ray's driver writes them, before it copies them to its folder.

        Raises:
            UserError: Nothing can be written there.
        """
        paths = {path.name: path for path in staging.glob("*.*") if path.suffix in (".json", ".pkl")}
        paths |= {SCHEDULER: self._scheduler} if self._scheduler.is_file() else {}
        found = {name: ((status := path.stat()).st_mtime_ns, status.st_size) for name, path in paths.items()}
        if found == self._kept or not any(name.startswith(_STATE) for name in found):
            return
        files = {name: path.read_bytes() for name, path in paths.items()}
        if _TUNER not in files:
            with self._system.open_input_stream(f"{self._root}/{_TUNER}") as file:
                files[_TUNER] = file.read()
        self._write(files)
        self._kept = found

    def restore(self, trust: bool) -> bool:
        """Puts the kept files in place of those in Ray's folder.

        Args:
            trust: Also those that this user's sweeps did not keep.

        Returns:
            Whether Ray can resume; otherwise the sweep was interrupted before it held anything.

        Raises:
            UserError: The files are not known, or cannot be read or written.
        """
        content = self._content()
        if not trust and (content is None or _digest(content) not in self._digests()):
            unknown = self._root if content is None else self._archive
            raise UserError(
                f"{unknown} was not written by a sweep that you ran in this folder, and resuming it would run code "
                "from it; give another --out, or pass --trust if you trust whoever wrote it."
            )
        if content is not None:
            with ZipFile(BytesIO(content)) as archive:
                self._put_back({name: archive.read(name) for name in archive.namelist()})
        return any(name.startswith(_STATE) for name in self._rays_files())

    def _put_back(self, files: dict[str, bytes]) -> None:
        with writing_to(self._root):
            for name in self._rays_files():
                self._system.delete_file(f"{self._root}/{name}")
            self._scheduler.unlink(missing_ok=True)
            self._system.create_dir(self._root, recursive=True)
            for name, data in files.items():
                if name == SCHEDULER:
                    write_bytes(self._scheduler, data, durable=False)
                    continue
                with self._system.open_output_stream(f"{self._root}/{name}") as file:
                    file.write(data)

    def _rays_files(self) -> list[str]:
        """All pickles in Ray's folder, and files with pickles inside, by their paths below it."""
        found = self._system.get_file_info(fs.FileSelector(self._root, allow_not_found=True, recursive=True))
        names = [info.path.removeprefix(self._root).strip("/") for info in found if info.type == fs.FileType.File]
        return [name for name in names if name.endswith(".pkl") or (name.endswith(".json") and "/" not in name)]

    def _write(self, files: dict[str, bytes]) -> None:
        buffer = BytesIO()
        with ZipFile(buffer, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        content = buffer.getvalue()
        digests = [_digest(content), *self._digests()][:_NUM_DIGESTS]
        make_folder(self._record.parent)
        with writing_to(self._record, f"free space, or name another cache with {CACHE_VARIABLE}"):
            write_json(self._record, _RECORD.stamp({"sweep": str(self._archive.parent), "sha256": digests}))
        with writing_to(self._archive):
            write_bytes(self._archive, content)

    def _content(self) -> bytes | None:
        """The archive; None in sweeps of older releases."""
        try:
            with os.fdopen(open_plain(self._archive), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{self._archive} cannot be read ({error.strerror}); give another --out.") from None

    def _digests(self) -> list[str]:
        if not self._record.is_file():
            return []
        try:
            return list(_RECORD.read(self._record, json.loads(self._record.read_text("utf-8")))["sha256"])
        except (OSError, json.JSONDecodeError, KeyError) as error:
            raise UserError(f"{self._record} cannot be read ({error}); delete it, then pass --trust.") from None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
