"""What surrounds a trial in its process."""
