"""Fetching published data sets from a server on this machine, up to packing them."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from field_trees import SMILES, write_images, write_olivetti
from file_server import serving
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.downloads.unpacking import unpack
from shards.fetch import PUBLISHED, FetchConfig, fetch, main
from shards.pack import main as pack_main
from shards.sources import SOURCES
from shards.sources.base import FIGSHARE, Published, PublishedFile


@pytest.fixture
def server() -> Iterator[Any]:
    with serving("") as running:
        yield running


def zipped(root: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for path in sorted(root.rglob("*")):
            file.write(path, path.relative_to(root))
    return buffer.getvalue()


def tarred(root: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path in sorted(root.iterdir()):
            tar.add(path, path.name)
    return buffer.getvalue()


@pytest.fixture
def fei(server: Any, tmp_path: Path) -> Any:
    """A server with the four archives of FEI, three pictures of ten people in each of them."""
    for number, (name, url, _, _) in enumerate(vars(file).values() for file in PUBLISHED["fei"].files):
        people = range(number * 10 + 1, number * 10 + 11)
        tree = tmp_path / "trees" / name
        write_images(tree, [f"{person}-{pose:02d}.jpg" for person in people for pose in (1, 11, 12)])
        server.files[f"/{name}"] = zipped(tree)
        assert url.endswith(name)
    return server


def test_fei_is_fetched_unpacked_and_packed(fei: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "faces"
    main(["fei", str(folder), "--mirror", fei.url])
    printed = capsys.readouterr().out
    sha256 = hashlib.sha256(fei.files["/originalimages_part1.zip"]).hexdigest()
    assert f"sha256 {sha256}; no checksum is published" in printed and "Terms: for research" in printed
    assert f"python -m shards.pack fei {folder} OUTPUT" in printed
    record = json.loads((folder / "fetched.json").read_text())
    assert list(record) == [file.name for file in PUBLISHED["fei"].files]
    assert record["originalimages_part1.zip"]["sha256"] == sha256
    left = {path.name for path in folder.iterdir()}
    assert "fetched.json" in left and not any(name.endswith(".zip") or name.startswith(".") for name in left)
    pack_main(["fei", str(folder), str(tmp_path / "out"), "--size", "16", "--workers", "1"])
    dataset = Dataset(tmp_path / "out")
    assert sum(map(dataset.num_samples, dataset.splits)) == 120
    # A second fetch asks the server for nothing.
    num_requests = len(fei.ranges)
    main(["fei", str(folder), "--mirror", fei.url])
    assert len(fei.ranges) == num_requests and "is already there" in capsys.readouterr().out


def test_a_fetch_that_broke_off_resumes(fei: Any, tmp_path: Path) -> None:
    config = FetchConfig("fei", tmp_path / "faces", mirror=fei.url)
    fei.stops_after = 2000
    with pytest.raises(UserError, match="part1.zip could not be downloaded .received 2,000 of .*rerun to resume"):
        fetch(config)
    fei.stops_after = None
    assert len(fetch(config)) == 120
    assert fei.ranges[:2] == [None, "bytes=2000-"]


def test_checksums_are_checked_for_files_copied_by_hand_too(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_olivetti(tmp_path / "tree")
    content = (tmp_path / "tree" / "olivettifaces.mat").read_bytes()
    server.files["/olivettifaces.mat"] = content
    config = FetchConfig("olivetti", tmp_path / "faces", mirror=server.url)
    with pytest.raises(UserError, match=f"its sha256 is {hashlib.sha256(content).hexdigest()}, not b612fb"):
        fetch(config)
    config.folder.mkdir(exist_ok=True)
    (config.folder / "olivettifaces.mat").write_bytes(content)
    with pytest.raises(UserError, match="is not the published file .its sha256 .*delete it"):
        fetch(config)
    file = PublishedFile("olivettifaces.mat", "", sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(PUBLISHED, "olivetti", Published("olivetti", (file,), "tests"))
    assert fetch(config) == [config.folder / "olivettifaces.mat"] and server.ranges == [None]


def test_a_web_page_in_place_of_an_archive_is_recognized(fei: Any, tmp_path: Path) -> None:
    fei.files["/originalimages_part2.zip"] = b"<!DOCTYPE html><html><body>Sign in</body></html>"
    config = FetchConfig("fei", tmp_path / "faces", mirror=fei.url)
    with pytest.raises(UserError, match="part2.zip could not be downloaded .the server sent a web page"):
        fetch(config)
    assert (config.folder / "1-01.jpg").is_file()  # The first part stays.
    fei.files["/originalimages_part2.zip"] = fei.files["/originalimages_part1.zip"]
    assert len(fetch(config)) == 120


def test_a_missing_file_and_a_missing_server(fei: Any, tmp_path: Path) -> None:
    del fei.files["/originalimages_part1.zip"]
    with pytest.raises(UserError, match="404.*; download it by other means as .*part1.zip and .*or give --mirror"):
        fetch(FetchConfig("fei", tmp_path / "faces", mirror=fei.url))
    with pytest.raises(UserError, match=r"could not be downloaded \(Connection refused\); download"):
        fetch(FetchConfig("fei", tmp_path / "faces", mirror="http://127.0.0.1:9"))


def test_a_damaged_archive_unpacks_nothing(fei: Any, tmp_path: Path) -> None:
    fei.files["/originalimages_part1.zip"] = fei.files["/originalimages_part1.zip"][:3000]
    config = FetchConfig("fei", tmp_path / "faces", mirror=fei.url)
    with pytest.raises(UserError, match="cannot be unpacked .*delete it and fetch it again"):
        fetch(config)
    assert {path.name for path in config.folder.iterdir() if not path.name.startswith(".")} == {
        "originalimages_part1.zip"
    }


def test_tar_archives_and_kept_archives(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = [f"lfw_funneled/{person}/{person}_0001.jpg" for person in ("Ann_Lee", "Bo")]
    write_images(tmp_path / "tree", people)
    server.files["/lfw-funneled.tgz"] = content = tarred(tmp_path / "tree")
    file = PublishedFile("lfw-funneled.tgz", "", md5=hashlib.md5(content).hexdigest())
    monkeypatch.setitem(PUBLISHED, "lfw_funneled", Published("lfw", (file,), "tests"))
    config = FetchConfig("lfw_funneled", tmp_path / "faces", mirror=server.url, keep_archives=True)
    assert fetch(config) == [config.folder / "lfw_funneled"]
    assert (config.folder / "lfw-funneled.tgz").is_file()
    entry = SOURCES["lfw"]
    assert len(entry.open(entry.config_class(input=config.folder), 16)) == 2


@pytest.mark.parametrize("name", ["lfw", "lfw_funneled"])
def test_lfw_comes_from_the_host_of_its_copy(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_images(tmp_path / "tree", [f"{name}/{person}/{person}_0001.jpg" for person in ("Ann_Lee", "Bo")])
    published, contents = PUBLISHED[name], (tarred(tmp_path / "tree"), b"10 300")
    host = server.url.removesuffix("/")
    files = []
    for file, content in zip(published.files, contents, strict=True):
        assert file.url.startswith(FIGSHARE) and file.sha256
        server.moved[f"/files/{file.url.rsplit('/', 1)[-1]}"] = f"{host}/store/{file.name}?signature=1"
        server.files[f"/store/{file.name}?signature=1"] = content
        url = file.url.replace(FIGSHARE, f"{host}/files/")
        files.append(replace(file, url=url, sha256=hashlib.sha256(content).hexdigest()))
    monkeypatch.setitem(PUBLISHED, name, replace(published, files=tuple(files)))
    server.stops_after = 200
    with pytest.raises(UserError, match="rerun to resume"):
        fetch(FetchConfig(name, tmp_path / "faces"))
    server.stops_after = None
    assert fetch(FetchConfig(name, tmp_path / "faces")) == [tmp_path / "faces" / name, tmp_path / "faces" / "pairs.txt"]
    assert server.ranges[1] == "bytes=200-"
    entry = SOURCES["lfw"]
    assert len(entry.open(entry.config_class(input=tmp_path / "faces"), 16)) == 2


def test_smiles_as_its_authors_pack_it(server: Any, tmp_path: Path) -> None:
    write_images(tmp_path / "tree" / "SMILEsmileD-master", SMILES, "L")
    server.files["/SMILEsmileD.zip"] = zipped(tmp_path / "tree")
    fetch(FetchConfig("smiles", tmp_path / "faces", mirror=server.url))
    entry = SOURCES["smiles"]
    assert len(entry.open(entry.config_class(input=tmp_path / "faces"), 16)) == 3


@pytest.mark.parametrize("kind", ["zip", "tar", "link.tar"])
def test_archives_write_nothing_outside_their_folder(kind: str, tmp_path: Path) -> None:
    archive = tmp_path / f"bad.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("good.txt", "x")
            file.writestr("../evil.txt", "x")
    else:
        with tarfile.open(archive, "w") as tar:
            tar.addfile(tarfile.TarInfo("good.txt"))
            evil = tarfile.TarInfo("../evil.txt" if kind == "tar" else "evil")
            if kind == "link.tar":
                evil.type, evil.linkname = tarfile.SYMTYPE, str(tmp_path)
            tar.addfile(evil)
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "in")
    assert not (tmp_path / "evil.txt").exists() and list((tmp_path / "in").iterdir()) == []


def _encrypted() -> bytes:
    """A zip with the flag of encryption set, in the file's own header and in the directory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.txt", "x" * 20)
    content = bytearray(buffer.getvalue())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    return bytes(content)


def _unknown_method() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.txt", "x" * 20)
    content = bytearray(buffer.getvalue())
    content[8] = content[content.index(b"PK\1\2") + 10] = 99
    return bytes(content)


def _deep(kind: str) -> bytes:
    return _archive(kind, "d/" * 3000 + "a.txt")


def _archive(kind: str, name: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr(zipfile.ZipInfo(name), "x")
    else:
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def _damaged(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr("a.txt", bytes(range(256)) * 8)
    content = bytearray(buffer.getvalue())
    content[45:60] = b"\xff" * 15
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("encrypted.zip", _encrypted()),
        ("method.zip", _unknown_method()),
        ("nameless.zip", _archive("zip", "")),
        ("deep.zip", _deep("zip")),
        ("deep.tar", _deep("tar")),
        ("deflated.zip", _damaged(zipfile.ZIP_DEFLATED)),
        ("bzip2.zip", _damaged(zipfile.ZIP_BZIP2)),
        ("lzma.zip", _damaged(zipfile.ZIP_LZMA)),
        ("lzma.tar", lzma.compress(bytes(20_000))[:60]),
        ("empty.zip", b""),
    ],
)
def test_archives_that_cannot_be_unpacked(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} cannot be unpacked .*delete it and fetch it again"):
        unpack(tmp_path / name, tmp_path / "in")
    assert not list((tmp_path / "in").iterdir())


@pytest.mark.parametrize("text", ["[]", "{", '{"a.zip": {}}', '{"a.zip": 1}'])
def test_a_damaged_record_of_downloads(fei: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "fetched.json").write_text(text)
    with pytest.raises(UserError, match="fetched.json is damaged; delete it"):
        fetch(FetchConfig("fei", tmp_path, mirror=fei.url))


@pytest.mark.parametrize("name", [name for name, entry in SOURCES.items() if not entry.published])
def test_other_sources_say_where_to_go(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="python -m shards.pack"):
        fetch(FetchConfig(name, tmp_path))


def test_every_source_can_be_fetched_or_says_where_to_go(tmp_path: Path) -> None:
    for name, entry in SOURCES.items():
        assert bool(entry.published) != bool(entry.elsewhere), name
        assert {published.source for published in entry.published.values()} <= {name}
    with pytest.raises(UserError, match="no data set 'lfv' to fetch; known are lfw"):
        fetch(FetchConfig("lfv", tmp_path))
