"""The embedded model pair and everything that makes it again."""
