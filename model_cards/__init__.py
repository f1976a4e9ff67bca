"""Describe a checkpoint: a model card whose every number comes from a scorecard or a run record."""
