"""Texts, batches and downloads."""
