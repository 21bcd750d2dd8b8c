"""The ledger: idempotency record, durable queue and task history in one.

Six kinds of record, each changed by one conditional write at a time; no transaction spans two:

    event       what was accepted: its request, where it stands, when it is due, how it ended
    ask         one GenerateOnceTask call, once sent or about to be, and the events that it serves
    place       the one ask that a task type has in flight or unresolved, over all processes
    task        which ask a task of the service belongs to, so that no other ask takes it for its own
    signature   which delivery a signature first came with, where the delivery id is not signed
    lease       the one sweep that is at work

    record event -> take place -> record ask -> (send) -> answer on it -> settle events -> give place back
         |              | died: the place ends with its claim   | died: the place still names the ask,
         | died: the sweep finds it                             | so the next sweep looks or settles

Whoever holds a type's place is the only one who asks for events of that type, so events need no
locks of their own: they are read anew under the place. A `Store` keeps rows and knows nothing of
these rules; memory, SQLite and DynamoDB differ only there.
"""
