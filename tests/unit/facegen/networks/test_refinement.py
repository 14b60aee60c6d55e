"""The refinement of a decoder's image: starts as identity, learns what depends on surroundings and on position."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from facegen.networks.refinement import Refinement, RefinementConfig


@pytest.mark.parametrize("widths", [[8], [4, 8], [4, 4, 4]])
@pytest.mark.parametrize("norm", [False, True])
def test_it_starts_as_identity_and_keeps_the_shape(widths: list[int], norm: bool) -> None:
    images = torch.rand(2, 3, 16, 24) * 2 - 1
    refinement = Refinement(3, 16, 24, RefinementConfig(widths=widths, norm=norm))
    torch.testing.assert_close(refinement(images), images, rtol=0, atol=0)


def test_it_learns_to_sharpen_images_it_has_not_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    # Large flat squares: an edge can be told from its blur.
    sharp = functional.interpolate(torch.rand(80, 1, 4, 4, generator=generator).round(), scale_factor=4.0) * 2 - 1
    blurred = functional.avg_pool2d(functional.pad(sharp, (1, 1, 1, 1), mode="replicate"), 3, 1)
    refinement = Refinement(1, 16, 16, RefinementConfig(widths=[16, 16]))
    optimizer = torch.optim.Adam(refinement.parameters(), lr=1e-2)
    for _ in range(60):
        loss = (refinement(blurred[:64]) - sharp[:64]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        before, after = ((images - sharp[64:]).square().mean() for images in (blurred[64:], refinement(blurred[64:])))
    assert after < 0.3 * before


def test_sides_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 4, not 16x18"):
        Refinement(3, 16, 18, RefinementConfig(widths=[4, 4]))
