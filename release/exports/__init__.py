"""Checkpoints in the formats of other runtimes: GGUF for llama.cpp, each file held against the checkpoint before it counts."""
