"""Versions of tables, models and documents, and the IO managers that write and read them."""
