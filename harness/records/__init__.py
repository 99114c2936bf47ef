"""What a trial leaves behind, and the mirror of it."""
