"""Tools that explore a trained model's latent space, shared by the commands, the report and the studio."""
