"""Where bars come from: the packaged sample, a folder of CSV files, Yahoo Finance."""
