"""HTTP: routes, limits, health, faults."""
