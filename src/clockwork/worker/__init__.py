"""The worker role: carries out actions inside their windows, one at a time per executor."""
