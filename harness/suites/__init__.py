"""From a suite file to checked values and a grid of trials."""
