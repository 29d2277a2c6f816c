"""Who the customers are: a K-Means model on user features, and names for its segments."""
