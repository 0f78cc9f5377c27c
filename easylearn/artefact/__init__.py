"""Models as files without code: one archive with the weights and how items are prepared for them."""
