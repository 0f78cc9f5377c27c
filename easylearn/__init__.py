"""easylearn."""
