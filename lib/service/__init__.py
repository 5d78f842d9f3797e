"""The two doors to one dispatcher: a boto3 client inside the process, and HTTP."""
