"""Gender and smile in the data and in a model's samples: ``python -m eval.bias RUN --data DIR --out DIR``.

A conditional model's samples are drawn from the same latents at each degree: who changes gender when only the degree
moves?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from eval.biases.bias_table import FORMAT, chart, markdown, terminal
from eval.biases.counting import BiasOptions, find_bias
from eval.features.spaces import load_efflite0
from eval.latent.options import ModelOptions, open_data, open_model
from shards.base.files import output_folder, write_bytes, write_json, writing_to
from shards.command_line import cli


@dataclass(kw_only=True)
class BiasConfig(BiasOptions, ModelOptions):
    """Options of a table of biases."""

    data: str
    """Packed data set with labels of gender and smile, framed like the run's images; the probes are fitted on it."""
    out: str
    """Directory for bias.json, bias.md and, for a conditional model, bias.svg."""


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = cli.parse(
        BiasConfig,
        prog="python -m eval.bias",
        description="Counts gender and smile in the data and in samples, and who changes gender with the degree.",
        positional=["run"],
        args=args,
    )
    out = output_folder(config.out)
    model = open_model(config, "sample")
    dataset = open_data(config.data, model, "train", config.split)
    result = find_bias(config, model, dataset, load_efflite0(model.device))
    picture = chart(result)
    with writing_to(out):
        if picture:
            write_bytes(out / "bias.svg", picture.encode())
        write_bytes(out / "bias.md", markdown(result, bool(picture)).encode())
        write_json(out / "bias.json", FORMAT.stamp(asdict(result)), indent=1)
    print(f"\n{terminal(result)}\nwrote {out / 'bias.json'}")


if __name__ == "__main__":
    cli.run(main)
