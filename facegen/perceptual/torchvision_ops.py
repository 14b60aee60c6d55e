"""Makes torchvision importable beside a torch build that does not match its compiled operators.

torchmetrics and torch-fidelity import torchvision, whose usual wheel is compiled against a CUDA build of torch. Beside
a CPU-only torch its operators do not load, and importing it fails when it attaches shape rules to them ("operator
torchvision::nms does not exist"). Nothing here calls these operators, so declaring their signatures is enough.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from contextlib import suppress
from pathlib import Path

import torch

_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_libraries: list[torch.library.Library] = []  # A library's operators vanish when it is freed.


def make_torchvision_importable() -> bool:
    """Declares the operators that importing torchvision needs, if the compiled ones do not load.

    Returns:
        Whether anything was declared. Calling a declared operator raises ``NotImplementedError``.
    """
    if _libraries or "torchvision" in sys.modules or _load_compiled_operators():
        return False
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        library.define(name + schema)
    _libraries.append(library)
    return True


def _load_compiled_operators() -> bool:
    """Loads torchvision's operators as its own import would; returns whether ``nms`` then exists."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True  # Without torchvision, importing it should report just that.
    # _C.so, or _C_stable.so from version 0.29 on. Operators that are declared and then loaded abort the process.
    for path in sorted(Path(spec.origin).parent.glob("_C*")):
        if path.name.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
            with suppress(OSError):
                torch.ops.load_library(path)
    return hasattr(torch.ops.torchvision, "nms")
