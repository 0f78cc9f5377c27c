"""What a Learner needs of data."""
