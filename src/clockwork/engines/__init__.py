"""Devices that compute, or answer as if they did."""
