"""Mechanisms of the roles, one each: pure, with time as an argument. No part imports another."""
