"""The torch modules of models.py, one file a kind of model."""
