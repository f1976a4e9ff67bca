"""The starter set: preference pairs and prompts, written by hand, for a machine that reaches no Hub."""
