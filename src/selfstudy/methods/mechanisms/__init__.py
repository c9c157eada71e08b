"""Why it works: laboratories in which a mechanism can be watched, and held to exact results."""
