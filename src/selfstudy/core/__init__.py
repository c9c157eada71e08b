"""What everything stands on: runs, budgets, random streams, the index of methods, errors."""
