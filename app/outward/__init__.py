"""Going out to an address that somebody else has named: read strictly, resolved, checked, and then held to."""
