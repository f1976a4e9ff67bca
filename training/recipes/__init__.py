"""Recipes that ship: YAML files, one for each method."""
