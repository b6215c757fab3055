"""What is added to the model, where, and for which image."""
