"""Price sources: the packaged sample, a folder of CSV files, Yahoo Finance."""
