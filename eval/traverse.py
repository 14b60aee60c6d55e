"""Sweeps along latent dims or components: ``python -m eval.traverse RUN --data DIR --out sweep.png [--pca]``."""

from eval.latent.tools.traverse import TOOL
from shards.command_line import cli

main = TOOL.main

if __name__ == "__main__":
    cli.run(main)
