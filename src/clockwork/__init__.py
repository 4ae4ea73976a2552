"""Clockwork: predictable multi-tenant model serving."""
