"""Data only: what advisor knows of models, devices and use cases. Read by `advisor.catalog`, which also says what fits."""
