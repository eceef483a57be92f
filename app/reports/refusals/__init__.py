"""How often submits were refused, whose, why, and by which quota; `app.ledger.refusals` counts them."""
