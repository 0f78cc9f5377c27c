"""Training: the loop, callbacks, optimizers, records, checkpoints."""
