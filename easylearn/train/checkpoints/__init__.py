"""Checkpoints of a running fit: what a file of one holds, what writes it, and what goes on from it."""
