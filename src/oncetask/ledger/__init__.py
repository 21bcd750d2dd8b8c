"""The ledger: idempotency record, durable queue, history and outbox in one.

Seven kinds of record, each changed by one conditional write at a time; no transaction spans two:

    event/{id}            what was accepted: its request, where it stands, when it is due, how it ended
    lane/{task type}      the one call of the type that is in flight or unresolved, over all processes: its
                          request, events and answer; or a mere holder who ends or reopens events
    call/{call id}        a lost call: searched for in vain, or nobody can tell whether it made a task
    task/{task id}        which call's task it is, and whom to tell when it has ended
    lease/sweep           the one sweep that is at work, and what it tells the next: turns, full routes
    routes/names          every queue that an event was ever recorded in
    signed/{route}/{sha}  the delivery that signed bytes first came with, where its id is not signed

    step                                              if it dies here
    1  put the event, unless its id is bound          the sweep finds it in its route's queue
    2  put the lane, unless it is taken, with the     the claim ends; the sweep marks the call as lost, as
       whole call in it                               it may have been sent, and searches for its task
    3  send, once                                     the same
    4  write the answer on the lane                   the sweep goes on from here, without asking
    5  put the task's record, unless another call     the sweep does 5 to 7 again; done twice, they change
       has the task                                   nothing more
    6  settle each event that the call was sent for   the same
    7  delete the lane                                nothing is left to do

An unanswered call is searched for under its lane. Its task is adopted by steps 5 to 7; without one the call
becomes a record of its own, its events wait in their queue, and the lane is released: what is sent for them
later is a new call.

A lane's holder is the only one who sends for events of the type, or ends or reopens them, so events need no
locks of their own: they are read again under the lane. A claim's end frees nothing by itself; it only says
from when the call surely runs no longer, so that others may take the lane over.

Open events stand in one queue a route, by the sooner of their next attempt and their end; what runs stands in
another. A `Store` keeps rows and knows nothing of these rules; memory, SQLite and DynamoDB differ only there.
A record of a newer version is left as it is: old and new functions run side by side during a deployment.
"""
