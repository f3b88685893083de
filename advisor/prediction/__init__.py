"""Seconds: what a step, a prompt and a draft take, by formula or as they were measured here."""
