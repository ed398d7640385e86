"""Training: tuned hyperparameters and the candidate model."""
