"""Models that learn from examples in their context, and the predictors that they are held to."""
