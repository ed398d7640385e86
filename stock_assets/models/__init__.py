"""Networks that forecast the next session, and how they are fitted and tuned."""
