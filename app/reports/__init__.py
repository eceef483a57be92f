"""Where the money went: reads over the same entries, and what compares them with fal's bill."""
