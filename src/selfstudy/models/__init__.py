"""What is trained: encoders, heads, language models."""
