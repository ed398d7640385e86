"""The stages of the loop over the stores, without Dagster."""
