"""Data only: what advisor knows of models, devices and use cases. `advisor.knowledge.catalog` reads and checks it."""
