"""Measured here: with and without the drafter, and what the machine itself is good for."""
