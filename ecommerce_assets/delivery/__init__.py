"""Brings published results to where the shop reads them."""
