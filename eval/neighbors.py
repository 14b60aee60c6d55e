"""The training faces nearest to a model's samples: ``python -m eval.neighbors RUN --data DIR --out neighbors.png``."""

from eval.latent.tools.neighbors import TOOL
from shards.command_line import cli

main = TOOL.main

if __name__ == "__main__":
    cli.run(main)
