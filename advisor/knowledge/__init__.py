"""What is known beforehand: models, devices and use cases, read from `profiles/` and checked."""
