"""Recorded data: embedded, from a package, or from a file."""
