"""The perspective metric; see perspective.py."""
