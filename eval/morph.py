"""Morphs between faces: ``python -m eval.morph RUN --images a.jpg b.jpg --out morph.png [--animation morph.webp]``."""

from eval.latent.tools.morph import TOOL
from shards.command_line import cli

main = TOOL.main

if __name__ == "__main__":
    cli.run(main)
