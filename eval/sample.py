"""New faces from a trained model: ``python -m eval.sample RUN --out samples.png`` or ``--files DIR``."""

from eval.latent.tools.sample import TOOL
from shards.command_line import cli

main = TOOL.main

if __name__ == "__main__":
    cli.run(main)
