"""What a model is made of, without a framework: names, shapes, initial values, noise."""
