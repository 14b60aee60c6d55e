"""What may be downloaded of a published data set, and with which checksums; each source names its own files."""

from __future__ import annotations

from dataclasses import dataclass

FIGSHARE = "https://ndownloader.figshare.com/files/"
"""Where scikit-learn keeps its copies of published data sets."""


@dataclass(frozen=True)
class PublishedFile:
    """One file; archives (``.tgz``, ``.tar.gz``, ``.tar``, ``.zip``) are unpacked.

    Attributes:
        name: File name on the disk.
        url: Where it is.
        sha256: Of its content, where one is published.
        md5: The same, where only this is published.
    """

    name: str
    url: str
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True)
class Published:
    """A data set that may be downloaded.

    Attributes:
        source: The source that packs it.
        files: What to download.
        terms: The terms of use.
    """

    source: str
    files: tuple[PublishedFile, ...]
    terms: str
