"""Recorded by people: speech, text, series and images."""
