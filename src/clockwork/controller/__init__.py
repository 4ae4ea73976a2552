"""The controller role: the one place that decides everything."""
