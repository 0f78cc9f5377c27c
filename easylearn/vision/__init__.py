"""Images: data, augmentation, architectures."""
