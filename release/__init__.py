"""Release a checkpoint: plan, gate, publish, verify; and the embedded Hub to do it on."""
