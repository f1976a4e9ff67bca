"""Configurations of `accelerate launch` that ship: FSDP2 and DeepSpeed ZeRO-3."""
