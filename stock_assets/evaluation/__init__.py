"""How good forecasts are, and what follows from it: promotion, retraining, intervals."""
