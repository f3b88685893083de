"""The terminal as a device: its last row, its streams, its interrupts."""
