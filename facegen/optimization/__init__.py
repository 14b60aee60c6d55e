"""What a training step changes: optimizers, moving average, early stopping, and the state in a checkpoint."""
