"""Customers: K-Means segments, customer groups by RFM scores, their history, and predicted customer value."""
