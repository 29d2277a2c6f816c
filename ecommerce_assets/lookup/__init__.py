"""Looks up one user or one product in the stored tables, without Spark. commands.py is the command line."""
