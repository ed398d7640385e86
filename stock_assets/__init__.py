"""Daily stock-price forecasting as a graph of partitioned, versioned assets."""
