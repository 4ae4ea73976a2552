"""Model directories: their format, how they are made, measured and checked."""
