"""Whether draws from a run's prior are likely to be faces, as the use of its latents tells."""

from __future__ import annotations

from pathlib import Path

from facegen.latents.latent_history import read_latent_history

MAX_PRIOR_NATS = 1_000
"""KL of a face above which draws from the prior were textures. An image occupies exp(-KL) of the prior, and between
images the decoder has learned nothing. On LFW at 64 pixels draws were faces up to 463 nats, and textures at 1,754."""


def prior_note(name: str, run: Path, images_seen: int) -> str:
    """A sentence where the prior is unlikely to give faces, with the sampler to fit; empty where nothing is known.

    Args:
        name: The run's name.
        run: Run directory.
        images_seen: Images that the snapshot has seen.
    """
    history = read_latent_history(run)
    kept = history and history.until(images_seen)
    if kept is None or kept.kl is None:
        return ""
    nats = float(kept.kl[-1].sum())
    if nats <= MAX_PRIOR_NATS:
        return ""
    return (
        f"the prior of {name} is unlikely to give faces, since its latents hold {nats:,.0f} nats of an image; fit a "
        f"sampler with: python -m facegen.fit_sampler {advised_fit(run)}, or train with a larger KL weight."
    )


def advised_fit(run: Path) -> str:
    """The options of ``facegen.fit_sampler`` that work for any number of latents, and how to name the result."""
    return f"blend {run} --data DIR (then give {run}:blend)"
