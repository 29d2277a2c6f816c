"""training_metadata: what the newest tables and models are and how good, as one JSON document and as a model card."""
