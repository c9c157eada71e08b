"""How weights change: losses, fine-tuning, preferences, value fitting."""
