"""The Compare page: finished runs beside each other, and the one that was picked."""
