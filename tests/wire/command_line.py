"""The AWS CLI, started once: a line of JSON in is one command's words, a line out is its exit status and what it told.

In a process of its own, for it brings its own botocore, and only once, for it takes a second to start.
"""

import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

from awscli.clidriver import create_clidriver

for line in sys.stdin:
    told, complaint = StringIO(), StringIO()
    with redirect_stdout(told), redirect_stderr(complaint):
        status = create_clidriver().main(json.loads(line))
    print(json.dumps([status, told.getvalue(), complaint.getvalue()]), flush=True)
