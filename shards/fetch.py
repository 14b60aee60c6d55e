"""``python -m shards.fetch NAME FOLDER``: downloads a published data set, or says where to get it.

Downloads show their progress, resume where they broke off, and are checked: against the published checksum where there
is one, otherwise for their length and for being an archive at all. ``fetched.json`` in the folder records where each
file came from, and its sha256.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.base.errors import UserError
from shards.base.files import write_json, writing_to
from shards.base.records import parse_json
from shards.command_line.cli import parse, run
from shards.dataset.tar import sha256_file
from shards.downloads.download import check_download, download
from shards.downloads.unpacking import is_archive, unpack
from shards.sources import SOURCES
from shards.sources.base import PublishedFile

RECORD = "fetched.json"
PUBLISHED = {name: data_set for entry in SOURCES.values() for name, data_set in entry.published.items()}
"""What may be downloaded, by the name that the command takes."""


@dataclass
class FetchConfig:
    """Options of ``shards.fetch``."""

    name: str
    """Data set; for a source that may not be downloaded, the answer is where to get it."""
    folder: Path
    """Where to put it; other data sets may lie there, too."""
    mirror: str | None = None
    """Address of a folder with the same files under the same names, instead of the published addresses; the published
    checksums apply."""
    keep_archives: bool = False
    """Keep archives beside what was unpacked from them."""


def fetch(config: FetchConfig) -> list[Path]:
    """Downloads and unpacks what is missing.

    Returns:
        The files, and the top-level folders from archives.

    Raises:
        UserError: An unknown name, one that cannot be downloaded, or a download that failed.
    """
    if config.name not in PUBLISHED:
        if config.name in SOURCES:
            nothing = f"there is nothing to fetch for '{config.name}': see python -m shards.pack {config.name} --help"
            raise UserError(f"{SOURCES[config.name].elsewhere or nothing}.")
        names = ", ".join(dict.fromkeys([*PUBLISHED, *SOURCES]))
        raise UserError(f"there is no data set '{config.name}' to fetch; known are {names}.")
    with writing_to(config.folder, "give another folder"):
        config.folder.mkdir(parents=True, exist_ok=True)
    return [path for file in PUBLISHED[config.name].files for path in _fetch_file(file, config)]


def _fetch_file(file: PublishedFile, config: FetchConfig) -> list[Path]:
    record = _read_record(config.folder)
    known = record.get(file.name)
    if known and all((config.folder / name).exists() for name in known["unpacked"] or [file.name]):
        print(f"{file.name} is already there.")
        _tidy_up(config, file.name, known["unpacked"])
        return [config.folder / name for name in known["unpacked"] or [file.name]]
    url = f"{config.mirror.rstrip('/')}/{file.name}" if config.mirror else file.url
    path = config.folder / file.name
    advice = f"download it by other means as {path} and rerun the command, or give --mirror"
    was_there = path.is_file()
    download(url, path, file.sha256, advice=advice, md5=file.md5)
    if was_there:
        try:
            check_download(path, file.sha256, file.md5)
        except OSError as error:
            raise UserError(f"{path} is not the published file ({error}); delete it, then rerun the command.") from None
    sha256 = sha256_file(path)
    checked = f"sha256 {sha256}" + ("" if file.sha256 or file.md5 else "; no checksum is published")
    print(f"{file.name}: {path.stat().st_size:,} bytes, {checked}")
    names = unpack(path, config.folder) if is_archive(file.name) else []
    record[file.name] = {"url": url, "sha256": sha256, "num_bytes": path.stat().st_size, "unpacked": names}
    with writing_to(config.folder):
        write_json(config.folder / RECORD, record)
    _tidy_up(config, file.name, names)
    return [config.folder / name for name in names or [file.name]]


def _tidy_up(config: FetchConfig, name: str, unpacked: Sequence[str]) -> None:
    with writing_to(config.folder):
        if unpacked and not config.keep_archives:
            (config.folder / name).unlink(missing_ok=True)
        (config.folder / f".{name}.lock").unlink(missing_ok=True)


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        record = parse_json((folder / RECORD).read_bytes())
        _ = [entry["unpacked"] for entry in record.values()]
        return record
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{folder / RECORD} cannot be read ({error.strerror}); fix its permissions.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{folder / RECORD} is damaged; delete it to fetch everything again.") from None


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = parse(
        FetchConfig,
        prog="python -m shards.fetch",
        description=f"Downloads a published data set, checked and unpacked: {', '.join(PUBLISHED)}.",
        positional=("name", "folder"),
        args=args,
    )
    fetch(config)
    published = PUBLISHED[config.name]
    print(f"Terms: {published.terms}.")
    print(f"Pack it with: python -m shards.pack {published.source} {config.folder} OUTPUT")


if __name__ == "__main__":
    run(main)
