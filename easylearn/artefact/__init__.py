"""Models as files that hold no code: one archive with weights, and how to prepare what they are asked about."""
