"""training_metadata: one JSON document and a model card about the newest tables and models."""
