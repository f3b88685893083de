"""One probe per source. Each reads through a `Host`, returns what it found, and reports what failed."""
