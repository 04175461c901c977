"""The offline page, and the way back from a number to its files."""
