"""Going out to an address that somebody else has named: read strictly, resolved, checked, and then held to.

`targets` reads the URL, `dns` resolves its host, `addresses` says which may be called, `pinned` calls that one.
"""
