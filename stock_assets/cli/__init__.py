"""The command line: ``stock-assets``."""
