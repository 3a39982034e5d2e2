"""The way to the model."""
