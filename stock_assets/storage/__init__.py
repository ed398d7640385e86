"""The stores: PostgreSQL for rows, content-addressed files for arrays."""
