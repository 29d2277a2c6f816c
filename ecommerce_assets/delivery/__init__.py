"""Brings published results to where the shop reads them: databases, files, and a read-only HTTP service."""
