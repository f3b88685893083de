"""The machine: detected, described in words, or corrected by its user."""
