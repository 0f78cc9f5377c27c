"""Several inputs of one item (images, texts, a table) in one learner; each is a branch, data and model of its own."""
