"""Every trial of a suite with its state and cost, before anything runs."""
