"""One definition for each quantity that is reported."""
