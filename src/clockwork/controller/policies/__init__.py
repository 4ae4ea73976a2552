"""Policies: what to run, load and evict, where and when."""
