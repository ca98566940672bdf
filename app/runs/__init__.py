"""Runs as the pages tell them: read from their folders, watched, steered, summed up, taken home."""
