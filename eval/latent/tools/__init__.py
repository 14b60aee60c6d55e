"""The latent tools, one file each: the command's options, its pictures, and its routes in the studio."""
