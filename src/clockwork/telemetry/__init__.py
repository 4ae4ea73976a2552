"""Logs, console lines, reports and plots."""
