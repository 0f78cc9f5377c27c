"""Recommenders: from what people took to what they take next."""
