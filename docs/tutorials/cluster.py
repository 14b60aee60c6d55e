# %% [markdown]
# # Scale to a cluster
#
# What runs on a laptop runs on many machines: the order of the images does not depend on the number of processes, so
# a run can change machines half-way. These lines show it on one machine, with processes in place of machines.

# %%
import json
from pathlib import Path

# %% language="bash"
# facegen pack synthetic data --num 1000 --size 32 --crop 0.2,0.25,0.8,0.85 --samples_per_shard 100

# %% [markdown]
# ## Two processes, then one
#
# `--launch` hands its words to `accelerate launch`; on a cluster they name the machines. The run stops at 2,000
# images, and resumes with one process up to 4,000.

# %% language="bash"
# set -e
# facegen train --launch "--num_processes 2" vae --config vae_demo --data data --run moved --max_images 2000 > moved.log
# facegen train vae --config vae_demo --data data --run moved --max_images 4000 >> moved.log

# %% [markdown]
# Another run that never moved sees the same images in the same order, with the same noise; sums in another order
# differ in their last digits.

# %% language="bash"
# set -e
# facegen train vae --config vae_demo --data data --run stayed --max_images 2000 > stayed.log
# facegen train vae --config vae_demo --data data --run stayed --max_images 4000 >> stayed.log


# %%
def last_error(run: str) -> float:
    """The last held-out squared error of a run."""
    lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    return next(line["val/mse"] for line in reversed(lines) if "val/mse" in line)


last_error("moved"), last_error("stayed")

# %% [markdown]
# ## Launch files
#
# For Slurm, Kubernetes and Ray they ship with the project; copy them and set the names of your cluster. They save a
# checkpoint when the machine is about to be taken away, and resume from it.

# %% language="bash"
# set -e
# facegen jobs copy slurm launch
# head -n 12 launch/train.sbatch

# %% [markdown]
# ## Data in a bucket
#
# `--data s3://bucket/faces` streams the shards, through a cache on each machine. Each machine reads about its own
# share of them in an epoch ([scale](../scale.md)); packing and sweeps take a Ray cluster with `--address auto`
# ([deployment](../deployment.md)).
