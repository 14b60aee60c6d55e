"""A map of the latent space: ``python -m eval.tsne RUN --data DIR --color Male --out map.png``."""

from eval.latent.tools.tsne import TOOL
from shards.command_line import cli

main = TOOL.main

if __name__ == "__main__":
    cli.run(main)
