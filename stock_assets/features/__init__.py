"""From adjusted bars to the inputs of a network: indicators, the panel, scaling and windows."""
