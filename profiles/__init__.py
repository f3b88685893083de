"""Data only: what advisor knows of models, devices and use cases. `advisor.catalog` reads and checks it."""
