"""What one job cost, and why: its quote, its price, what fal said, its entries and the windows it was held in.

Read from rows by one statement (`rows`), put together (`explain`) with plain words (`words`), shown over HTTP
(`shapes`, `routes`) and by `app.cli.explained`. Of a job's input only what its price depends on is shown.
"""
