"""A trained model in use: densities, samples, codes of data; and a script that does without us."""
