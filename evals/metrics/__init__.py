"""Metrics of generations as modules that `evaluate.load` takes by path."""
