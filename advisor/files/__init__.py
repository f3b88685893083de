"""Model files: what their headers say, where they are, and how they get here."""
