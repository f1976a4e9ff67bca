"""Train a checkpoint and record how: the ground floor, which imports none of the other packages."""
