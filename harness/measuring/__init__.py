"""What a model is measured by, in training and after it."""
