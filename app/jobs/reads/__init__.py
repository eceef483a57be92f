"""What callers see of jobs, and how they wait for it; nothing here writes."""
