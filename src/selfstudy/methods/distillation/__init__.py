"""The model as its own teacher."""
