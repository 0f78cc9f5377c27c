"""Text: language models and the classifiers made of them (ULMFiT)."""
