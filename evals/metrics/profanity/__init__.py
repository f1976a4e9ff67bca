"""The profanity metric; see profanity.py."""
