# %% [markdown]
# # Train on your own faces
#
# From a folder of photos to a model of faces, and a report of how well it reconstructs people whom it has not seen.
#
# So that these lines run anywhere, the first part makes the folder, of rendered faces. With photos of your own, start
# at [Pack](#pack).

# %%
from pathlib import Path

import PIL.Image
from IPython.display import Image

import facegen
import shards
from facegen.pixels import grid, to_uint8

# %% language="bash"
# facegen pack synthetic rendered --num 1200 --num_identities 200 --size 96 --crop 0.2,0.25,0.8,0.85

# %%
rendered = shards.Dataset("rendered")
for split in rendered.splits:
    for batch in shards.evaluation_batches(rendered, split, batch_size=100):
        for row, identity, image in zip(batch.rows, batch.labels["identity"], batch.images.numpy(), strict=True):
            person = Path("my_faces", f"person_{identity:03d}")
            person.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(image).save(person / f"{split}_{row:04d}.png")

# %% [markdown]
# ## Pack
#
# Images become shards once. Each folder below `my_faces` is one person: then all photos of a person fall into one
# split, and held-out faces are of people whom the model has never seen. Without people, leave `--subfolders` out.

# %% language="bash"
# set -e
# facegen pack folder my_faces data --size 64 --subfolders identity
# facegen inspect data --out sheet.png

# %%
Image("sheet.png")

# %% [markdown]
# Faces should fill the picture, with the eyes at the same places. If they do not, `facegen align my_faces aligned`
# finds and aligns them first ([data](../data.md#align)).
#
# ## Train
#
# The preset `vae_demo` is a small VAE that starts as the best linear model of your images. It trains on 6,000 images
# here, which takes a minute on a CPU; leave `--max_images` out for better faces.

# %% language="bash"
# facegen train vae --config vae_demo --data data --run run --max_images 6000

# %% [markdown]
# The same line again would resume the run, had it been interrupted. `tensorboard --logdir run` shows its curves.
#
# ## Report

# %% language="bash"
# facegen report run --data data --split test --fid_weights none --num_train 500 --out report > report.log

# %%
Image("report/figures/reconstructions.png")

# %% [markdown]
# Above the held-out faces, below their reconstructions. `report/report.html` has everything else: the errors beside
# those of principal components, distances between samples and faces, latents in use, and what each dim does.
#
# ## Use

# %%
model = facegen.load("run")
faces = model.sample(16, seed=0)  # float, N x C x H x W in [-1, 1]
PIL.Image.fromarray(grid(to_uint8(faces), num_columns=8).numpy())
