"""fal in a box: a process that speaks fal's queue, renders nothing and answers like the real one.

It imports nothing else of `app`; facts about fal are cited from FAL.md. Its rooms, each looking down only:

    server · __main__      the process: a port, one ready line, a quick end
    application            which path belongs to whom
    submits · reads · streams       fal's queue: the POST | status, result, cancel | status as events
    platform · webhooks             request and price list, balance, key set | the sender of webhooks
    control · files · storage       what is not fal's (for tests, demos) | the finished videos | uploads by callers
    box                    everything the pretended fal remembers
    uploads                         what is kept of those uploads
    bill                            what each request cost, as late and as wrong as asked for
    outbox · signing · account      which webhook is due when | the keys that sign them | whose account it is
    price_list · prices             what fal says a second costs | what it bills
    jobs · slots · outcomes         one job's course | concurrency | how it ends
    scripts · faults       trouble asked for by the prompt | trouble set for the next calls
    endpoints · validation · images · clips · clock · calls · answers · wire

All seconds inside are simulated: `speed` makes fal's whole world run faster, start deadlines included.
At speed 1 a job waits 1 s and renders for 3 s. A job's state is computed from its moments whenever somebody
asks; the one thing that runs between calls is the sender of webhooks, which wakes at the moments when jobs end.
"""

from app.sandbox.server import serve

__all__ = ["serve"]
