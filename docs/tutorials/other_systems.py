# %% [markdown]
# # Compare with another system's images
#
# A report takes images that any program made, and measures them as it measures its own. The other system is linear
# algebra here, which is harder to beat than it looks.

# %%
from pathlib import Path

import numpy as np
import PIL.Image
from IPython.display import Image, Markdown

import shards

# %% language="bash"
# set -e
# facegen pack synthetic data --num 2000 --size 64 --crop 0.2,0.25,0.8,0.85 --hold '[yaw,roll,scale,shift_x,shift_y]'
# facegen train vae --config vae_demo --data data --run vae --max_images 8000 > vae.log

# %% [markdown]
# ## Their images
#
# Samples of a normal distribution over 64 principal components, as 200 PNG files. An array of NumPy would do, too.

# %%
batches = shards.evaluation_batches(shards.Dataset("data"), "train", batch_size=500)
faces = np.concatenate([batch.images.numpy() for batch in batches]).astype(np.float32)
mean = faces.mean(0)
_, deviations, components = np.linalg.svd((faces - mean).reshape(len(faces), -1), full_matrices=False)
noise = np.random.default_rng(0).standard_normal((200, 64)) * deviations[:64] / np.sqrt(len(faces))
samples = mean + (noise @ components[:64]).reshape(-1, *mean.shape)
Path("theirs").mkdir(exist_ok=True)
for number, sample in enumerate(samples.clip(0, 255).astype(np.uint8)):
    PIL.Image.fromarray(sample).save(f"theirs/{number:04d}.png")

# %% [markdown]
# ## Report

# %% language="bash"
# facegen report vae images:theirs --data data --split test --fid_weights none --num_images 200 --num_samples 200 \
#     --num_train 500 --out report > report.log

# %%
Markdown(Path("report/report.md").read_text().split("## Summary")[1].split("##")[0].split("\n", 1)[1])

# %%
Image("report/figures/theirs-samples.png")
