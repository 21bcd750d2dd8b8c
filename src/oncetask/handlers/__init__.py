"""What AWS starts: one module a function. Each turns its event into requests, and results into a reply.

Importing makes hundreds of thousands of objects and no garbage, so that none is looked for until `app.start`
has made the app.
"""

import gc

gc.disable()
