"""tuning: sweeps over training options with Ray Tune."""
