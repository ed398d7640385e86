"""Daily stock-price forecasting as a graph of partitioned, versioned assets."""

import os

# PyTorch, which reads this when it is first asked for memory, then wants 2 MiB pages for what is
# large: with pages of 4 KiB a third of the time of training went into having them made.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
