"""Task definitions in lm-eval's format, with their items in data/; paths in them are relative to this folder."""
