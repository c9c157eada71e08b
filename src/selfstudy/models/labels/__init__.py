"""Labels with distances between them, and what to predict where those are known."""
