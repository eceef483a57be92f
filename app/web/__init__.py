"""What a person or a machine that watches us opens: /docs, the problems' pages, health and metrics."""
