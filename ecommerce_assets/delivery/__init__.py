"""Delivers published results to databases and files, exports customers, and serves a read-only HTTP API."""
