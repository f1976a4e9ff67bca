"""The roberta_hate_speech metric; see roberta_hate_speech.py."""
