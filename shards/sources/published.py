"""Where the data sets of the field are published, which of them may be downloaded, and with which checksums."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedFile:
    """One file: archives (``.tgz``, ``.tar.gz``, ``.tar``, ``.zip``) are unpacked.

    Attributes:
        name: What it is called on the disk.
        url: Where it is.
        sha256: Of its content, where one is published.
        md5: The same, where there is only this.
    """

    name: str
    url: str
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True)
class Published:
    """A data set that may be downloaded.

    Attributes:
        source: The name under which ``shards.pack`` knows it.
        files: What to download.
        terms: Under which terms.
    """

    source: str
    files: tuple[PublishedFile, ...]
    terms: str


_FIGSHARE = "https://ndownloader.figshare.com/files/"
_LFW = "http://vis-www.cs.umass.edu/lfw/"
_FEI = "https://fei.edu.br/~cet/"
_FEI_FILES = (
    "originalimages_part1.zip",
    "originalimages_part2.zip",
    "originalimages_part3.zip",
    "originalimages_part4.zip",
)
_FEI_FRONTAL_FILES = ("frontalimages_spatiallynormalized_part1.zip", "frontalimages_spatiallynormalized_part2.zip")
# The copies and checksums of scikit-learn's fetch_lfw_pairs.
_LFW_PAIRS = PublishedFile(
    "pairs.txt", f"{_FIGSHARE}5976006", sha256="ea42330c62c92989f9d7c03237ed5d591365e89b3e649747777b70e692dc1592"
)
_LFW_TERMS = "for research; see http://vis-www.cs.umass.edu/lfw/"

# Checksums are those that scikit-learn (sha256) and torchvision (md5) check; FEI and SMILEs publish none.
PUBLISHED = {
    "lfw": Published(
        "lfw",
        (
            PublishedFile(
                "lfw-deepfunneled.tgz", f"{_LFW}lfw-deepfunneled.tgz", md5="68331da3eb755a505a502b5aacb3c201"
            ),
            _LFW_PAIRS,
            PublishedFile("people.txt", f"{_LFW}people.txt", md5="450f0863dd89e85e73936a6d71a3474b"),
        ),
        _LFW_TERMS,
    ),
    "lfw_funneled": Published(
        "lfw",
        (
            PublishedFile(
                "lfw-funneled.tgz",
                f"{_FIGSHARE}5976015",
                sha256="b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a",
            ),
            _LFW_PAIRS,
        ),
        _LFW_TERMS,
    ),
    "olivetti": Published(
        "olivetti",
        (
            PublishedFile(
                "olivettifaces.mat",
                f"{_FIGSHARE}5976027",
                sha256="b612fb967f2dc77c9c62d3e1266e0c73d5fca46a4b8906c18e454d41af987794",
            ),
        ),
        "give credit to AT&T Laboratories Cambridge",
    ),
    "fei": Published(
        "fei",
        tuple(PublishedFile(name, f"{_FEI}{name}") for name in _FEI_FILES),
        "for research, not to be passed on; see https://fei.edu.br/~cet/facedatabase.html",
    ),
    "fei_frontal": Published(
        "fei",
        tuple(PublishedFile(name, f"{_FEI}{name}") for name in _FEI_FRONTAL_FILES),
        "for research, not to be passed on; see https://fei.edu.br/~cet/facedatabase.html",
    ),
    "smiles": Published(
        "smiles",
        (PublishedFile("SMILEsmileD.zip", "https://github.com/hromi/SMILEsmileD/archive/refs/heads/master.zip"),),
        "see https://github.com/hromi/SMILEsmileD",
    ),
}
"""By the name that ``shards.fetch`` takes."""

ELSEWHERE = {
    "celeba": "CelebA is for non-commercial research by those who agree to its terms: get img_align_celeba.zip and the "
    "list_*.txt files at https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, unpack them into one folder, then run: "
    "python -m shards.pack celeba FOLDER OUTPUT",
    "utkface": "UTKFace is for non-commercial research and lies on a drive that asks who you are: get UTKFace.tar.gz "
    "(aligned and cropped) at https://susanqq.github.io/UTKFace/, unpack it, then run: python -m shards.pack utkface "
    "FOLDER OUTPUT",
    "casia_webface": "CASIA-WebFace is given to those who sign its agreement: see "
    "http://www.cbsr.ia.ac.cn/english/CASIA-WebFace-Database.html, unpack it, then run: python -m shards.pack "
    "casia_webface FOLDER OUTPUT",
    "hf": "Hugging Face data sets need no fetching: python -m shards.pack hf NAME OUTPUT streams them",
    "folder": "a folder of your own needs no fetching: python -m shards.pack folder FOLDER OUTPUT",
    "synthetic": "synthetic faces are rendered, not fetched: python -m shards.pack synthetic OUTPUT",
}
"""What to do for the sources that ``shards.fetch`` does not download."""
