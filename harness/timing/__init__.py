"""Backends side by side: the same arrays, batches and noise, in interleaved rounds."""
