"""Judges: what became of a request, read off the answer. None is believed without being measured itself."""
