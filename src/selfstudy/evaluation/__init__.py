"""How we know: metrics, intervals, comparisons on equal budgets, claims."""
