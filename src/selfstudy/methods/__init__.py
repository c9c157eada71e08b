"""One file per paper, in families."""
