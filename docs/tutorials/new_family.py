# %% [markdown]
# # Add a family
#
# A package of your own adds a family, and every command knows it: it is trained, resumed, reported, swept and looked
# at like the others. Here, a VAE that also minimizes the absolute error, which blurs edges less.

# %%
from pathlib import Path

from IPython.display import Image

import facegen

Path("sharp_faces").mkdir(exist_ok=True)

# %% [markdown]
# ## Write
#
# The config dataclass becomes options under `--model`, its docstrings the help. `objective` returns the terms of the
# loss; the trainer weighs, sums and logs them.

# %%
Path("sharp_faces/sharp_faces.py").write_text('''from dataclasses import dataclass

from facegen.families import Entry
from facegen.families.vae import VAE, VAEConfig
from facegen.losses.terms import Term


@dataclass
class SharpVAEConfig(VAEConfig):
    """Options of the sharp VAE."""

    edge_weight: float = 0.1
    """Weight of the absolute error."""


class SharpVAE(VAE):
    """VAE that also minimizes the absolute error, which blurs edges less than the squared one."""

    def objective(self, batch, reconstructions, *posterior):
        """The VAE's terms and the absolute error."""
        result = super().objective(batch, reconstructions, *posterior)
        error = (batch.images - reconstructions).abs().mean()
        return result._replace(terms=result.terms | {"edges": Term(error, self.config.edge_weight)})


FAMILY = Entry(SharpVAEConfig, SharpVAE)
''')
Path("sharp_faces/pyproject.toml").write_text("""
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "sharp-faces"
version = "0.1"

[project.entry-points."facegen.families"]
sharp_vae = "sharp_faces:FAMILY"

[tool.setuptools]
py-modules = ["sharp_faces"]
""")

# %% [markdown]
# ## Install
#
# Usually `pip install -e sharp_faces`. Here it goes into a folder beside, so that this page leaves nothing behind.

# %%
# %env PYTHONPATH=plugins

# %% language="bash"
# set -e
# pip install --quiet --no-deps --no-build-isolation --target plugins ./sharp_faces
# facegen train sharp_vae --help | grep -A 1 edge_weight

# %% [markdown]
# ## Use
#
# A preset names its family, so that nobody trains another one with it by mistake: this takes the options of `vae_demo`.

# %%
preset = Path(facegen.__file__).parent / "presets" / "vae_demo.yaml"
Path("sharp.yaml").write_text(preset.read_text().replace("family: vae", "family: sharp_vae"))

# %% language="bash"
# set -e
# facegen pack synthetic data --num 1000 --size 64 --crop 0.2,0.25,0.8,0.85 --hold '[yaw,roll,scale,shift_x,shift_y]'
# facegen train sharp_vae --config sharp.yaml --data data --run sharp --max_images 4000 \
#     --model.edge_weight 1 > sharp.log
# facegen train vae --config vae_demo --data data --run plain --max_images 4000 > plain.log
# facegen report sharp plain --data data --split test --fid_weights none --num_train 500 --out report > report.log

# %%
Image("report/figures/reconstructions.png")

# %% [markdown]
# [Extending](../extending.md) lists what else a package can add, and `tests/plugin` has one of each with their tests.
