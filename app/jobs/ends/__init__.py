"""How jobs end: the causes, the one place that does it, and what it costs."""
