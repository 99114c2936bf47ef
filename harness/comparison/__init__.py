"""What two runs say of each other: a record and its repetition, or the records of two roots."""
