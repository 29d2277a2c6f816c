"""Features computed from the events: user_features (one row per user) and product_features (one row per product)."""
