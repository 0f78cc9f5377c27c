"""Checkpoints of a running fit: their content, their writer, and their reader."""
