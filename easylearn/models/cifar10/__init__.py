"""Nets for images of 32 pixels."""
