# %% [markdown]
# # Edit a smile
#
# Two ways to a smile: a direction in the latent space of any autoencoder, found from labels after training; and a
# model that is trained with the label, and asked for a degree.
#
# The faces are rendered, so that each has a true degree of smile from -1 to 1. For photos, [`facegen
# label`](../labeling.md) measures it, or you label them by hand on a page.

# %%
import json
from pathlib import Path

from IPython.display import Image

# %% language="bash"
# facegen pack synthetic data --num 2000 --num_identities 2000 --size 64 \
#     --crop 0.2,0.25,0.8,0.85 --hold '[yaw,roll,scale,shift_x,shift_y]'
# facegen train vae --config vae_demo --data data --run vae --max_images 12000 > vae.log

# %% [markdown]
# ## A direction
#
# The vector of an attribute is the mean of the latents with it minus the mean of those without. Adding it adds the
# attribute, here from three times less to three times more than the way from one mean to the other.

# %% language="bash"
# set -e
# facegen edit fit vae --data data --out attributes.safetensors > attributes.txt
# grep -E "present|smile" attributes.txt
# facegen edit apply attributes.safetensors --run vae --attribute smile --strengths '[-3,-1.5,0,1.5,3]' \
#     --data data --split test --num 4 --out edits.png

# %%
Image("edits.png")

# %% [markdown]
# Each row is a held-out face; the middle column is its reconstruction. The vector also moves what goes along with
# smiles in the data; `--without LABEL` removes what it shares with another label's.
#
# ## A degree
#
# A conditional VAE gets the degree beside the latents, and learns to leave it out of them.

# %% language="bash"
# set -e
# facegen train cvae --config cvae_synthetic --data data --run cvae --max_images 16000 > cvae.log
# facegen smile cvae --data data --split test --num 4 --out degrees.png

# %%
Image("degrees.png")

# %% [markdown]
# How far the degree is obeyed is measured, not looked at: a regressor, trained on the data's true degrees, judges the
# faces that were asked for a degree. A slope and a correlation of 1 would be perfect.

# %% language="bash"
# facegen control cvae --data data --judge_epochs 4 --out control > control.log

# %%
measured = json.loads(Path("control/control.json").read_text())
measured["runs"][0]["faces"]["control"]
