"""advisor: knows this machine, chooses the right Gemma 4 for it, and runs it with its drafter."""

__version__ = "0.1.0"
