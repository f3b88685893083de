"""From a request to a pick: what was considered, what it is worth, and why."""
