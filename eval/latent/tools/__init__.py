"""The latent tools, a file each: the command's options, what it draws, and what the studio offers of it."""
