"""Tables: entity embeddings for categorical columns beside scaled continuous ones."""
