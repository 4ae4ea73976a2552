"""The roles in virtual time, under injected faults."""
