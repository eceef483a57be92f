"""The price book: what each endpoint costs and when, and what is asked before a price is added.

`book` keeps the rows; `check` compares them with fal's own list; `simulation` tells what the last days' jobs would have
cost under another. Over HTTP: `routes`, `shapes`.
"""
