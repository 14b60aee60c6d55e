"""``python -m shards.fetch NAME FOLDER``: downloads a published data set, or says where to go for it.

Downloads show their progress, go on where they broke off, and are checked: against the published checksum where there
is one, otherwise for their length and for being an archive at all. ``fetched.json`` in the folder says what came from
where, with its sha256.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.base.cli import parse, run
from shards.base.download import check_download, download
from shards.base.errors import UserError
from shards.base.files import write_json
from shards.base.unpacking import is_archive, unpack
from shards.dataset.tar import sha256_file
from shards.sources.published import ELSEWHERE, PUBLISHED, PublishedFile

RECORD = "fetched.json"


@dataclass
class FetchConfig:
    """Options of ``shards.fetch``."""

    name: str
    """Data set: lfw, lfw_funneled, olivetti, fei, fei_frontal or smiles; for the others it says where to go."""
    folder: Path
    """Where to put it; other data sets may be there already."""
    mirror: str | None = None
    """Address of a folder that holds the same files under the same names, instead of the published addresses; checksums
    are those that are published."""
    keep_archives: bool = False
    """Leave archives beside what was unpacked from them."""


def fetch(config: FetchConfig) -> list[Path]:
    """Downloads and unpacks what is not there yet.

    Returns:
        The files, and the uppermost folders from archives.

    Raises:
        UserError: An unknown name, one that cannot be downloaded, or a download that failed.
    """
    if config.name in ELSEWHERE:
        raise UserError(f"{ELSEWHERE[config.name]}.")
    if config.name not in PUBLISHED:
        names = ", ".join([*PUBLISHED, *ELSEWHERE])
        raise UserError(f"there is no data set '{config.name}' to fetch; known are {names}.")
    try:
        config.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {config.folder} ({error.strerror}); give another folder.") from None
    there: list[Path] = []
    for file in PUBLISHED[config.name].files:
        there += _fetch_file(file, config)
    return there


def _fetch_file(file: PublishedFile, config: FetchConfig) -> list[Path]:
    record = _read_record(config.folder)
    known = record.get(file.name)
    if known and all((config.folder / name).exists() for name in known["unpacked"] or [file.name]):
        print(f"{file.name}: is there already.")
        return [config.folder / name for name in known["unpacked"] or [file.name]]
    url = f"{config.mirror.rstrip('/')}/{file.name}" if config.mirror else file.url
    path = config.folder / file.name
    advice = f"download it elsewhere as {path} and run the same again, or give --mirror"
    was_there = path.is_file()
    download(url, path, file.sha256, advice=advice, md5=file.md5)
    if was_there:
        try:
            check_download(path, file.sha256, file.md5)
        except OSError as error:
            raise UserError(f"{path} is not what it should be ({error}); delete it and fetch it again.") from None
    sha256 = sha256_file(path)
    checked = f"sha256 {sha256}" + ("" if file.sha256 or file.md5 else "; no checksum is published")
    print(f"{file.name}: {path.stat().st_size:,} bytes, {checked}")
    names = unpack(path, config.folder) if is_archive(file.name) else []
    record[file.name] = {"url": url, "sha256": sha256, "num_bytes": path.stat().st_size, "unpacked": names}
    write_json(config.folder / RECORD, record)
    if names and not config.keep_archives:
        path.unlink()
    path.with_name(f".{path.name}.lock").unlink(missing_ok=True)
    return [config.folder / name for name in names or [file.name]]


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / RECORD).read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise UserError(f"{folder / RECORD} is damaged; delete it to fetch anew.") from None


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = parse(
        FetchConfig,
        prog="python -m shards.fetch",
        description="Downloads a published data set, checked and unpacked, or says where to go for it.",
        positional=("name", "folder"),
        args=args,
    )
    fetch(config)
    published = PUBLISHED[config.name]
    print(f"Terms: {published.terms}.")
    print(f"Pack it with: python -m shards.pack {published.source} {config.folder} OUTPUT")


if __name__ == "__main__":
    run(main)
