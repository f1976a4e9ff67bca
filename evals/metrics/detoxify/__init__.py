"""The detoxify metric; see detoxify.py."""
