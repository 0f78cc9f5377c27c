"""What came of a training run: interpretation, the report page, plots, summaries."""
