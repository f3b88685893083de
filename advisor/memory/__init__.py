"""Bytes: what a configuration needs, what may be filled, and where each part goes."""
