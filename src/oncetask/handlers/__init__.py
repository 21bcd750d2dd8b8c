"""What AWS starts: one module a function. Each turns its event into requests, and results into a reply.

Importing one of them makes hundreds of thousands of objects and no garbage, so that none is looked for
until `wiring.start` has made the app: `oncetask.later` says more.
"""

import gc

gc.disable()
