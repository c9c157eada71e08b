"""Few labels and many inputs: pseudo-labels, active learning, suspect labels, classes never seen."""
