"""What one job cost, and why: its quote, its price, what fal said, its entries and the windows it was held in.

Read from rows by one statement (`rows`), put into plain words (`words`), shown over HTTP (`shapes`, `routes`) and by
the command line (`printed`). Of a job's input only what its price depends on is shown.
"""
