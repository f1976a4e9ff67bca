"""The embedded Hub, which the unchanged huggingface_hub, transformers and datasets clients use as HF_ENDPOINT."""
