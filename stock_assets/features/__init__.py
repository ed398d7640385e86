"""From adjusted bars to what a network sees: indicators, the panel, scaling and windows."""
