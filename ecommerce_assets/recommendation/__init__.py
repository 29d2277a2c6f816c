"""What each customer might like next: indices, interactions, the ALS model, its evaluation and the top 10."""
