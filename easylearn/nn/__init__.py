"""Parts of models that know nothing of data."""
