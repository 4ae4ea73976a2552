"""Records that cross a border: between processes, and between a role and its shell.

Everything here is immutable and has no behaviour beyond arithmetic on its own fields.
"""
