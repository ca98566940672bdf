"""Runs as the pages show them: read from their folders, watched, controlled, summarized, exported."""
