"""Networks, training, tuning, the model bundle, baselines and intervals."""
