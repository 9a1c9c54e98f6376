"""Generators: nothing but a seed is needed."""
