"""The toxicity metric; see toxicity.py."""
