"""From a pick to an endpoint that answers: decided, started, proven, and kept on record."""
