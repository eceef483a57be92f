"""Months that are closed: `closing` closes and reopens them, `sums` are what is written down of each.

Over HTTP: `routes`, `shapes`.
"""
