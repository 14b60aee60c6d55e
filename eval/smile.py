"""Faces at many degrees of a conditional model's label: ``python -m eval.smile RUN --data DIR --out smile.png``."""

from eval.latent.tools.smile import TOOL
from shards.command_line import cli

main = TOOL.main

if __name__ == "__main__":
    cli.run(main)
