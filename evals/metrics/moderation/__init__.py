"""The moderation metric; see moderation.py."""
