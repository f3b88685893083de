"""A service for many users: which GPUs carry it, and what each user gets."""
