# %% [markdown]
# # Sweep the weight of the KL divergence
#
# One number decides what a VAE is: a small weight of the KL divergence gives sharp reconstructions and latents that
# no prior can sample, a large one the opposite. A sweep trains both, and what lies between.

# %%
from pathlib import Path

from IPython.display import Image

# %% language="bash"
# facegen pack synthetic data --num 1000 --size 32 --crop 0.2,0.25,0.8,0.85 --hold '[yaw,roll,scale,shift_x,shift_y]'

# %% [markdown]
# ## Space
#
# A space names a preset and the options to search, each by its dotted name, with a grid, a choice or a distribution.

# %%
Path("kld.yaml").write_text("""
family: vae
preset: vae_demo
search:
  model.kld_weight: {grid: [0.0005, 0.005, 0.05, 0.5]}
max_images: 4000
evaluate_every_images: 2000
objective: {weights: {fd_efflite0: 1}}
""")

# %% [markdown]
# ## Sweep
#
# Every trial is an ordinary training. The same command resumes a sweep that was stopped; with `--address auto` it
# uses a Ray cluster.

# %% language="bash"
# facegen sweep kld.yaml --data data --out sweep > sweep.log

# %%
Image("sweep/report/pareto.png")
