"""How candidates are found: tree search, beams, best-of-n, votes."""
