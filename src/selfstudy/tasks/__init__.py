"""Ready-made problems that tie data, verifier and metric together."""
