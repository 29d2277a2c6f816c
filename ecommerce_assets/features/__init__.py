"""What each user and each product looks like in the event log: one row per user, one row per product."""
