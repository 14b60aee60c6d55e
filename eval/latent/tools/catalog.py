"""Every latent tool."""

from __future__ import annotations

from eval.latent.tools import attributes, morph, neighbors, sample, smile, traverse, tsne
from eval.latent.tools.tool import Tool

TOOLS: list[Tool] = [
    attributes.TOOL,
    traverse.TOOL,
    morph.TOOL,
    tsne.TOOL,
    smile.TOOL,
    sample.TOOL,
    neighbors.TOOL,
]
"""The studio serves the routes of all of them."""
