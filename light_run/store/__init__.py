"""Files of runs that outlive a host: input, logs and artifacts in a shared folder or an S3 bucket.

Imports ``artifacts``, ``system`` and ``errors``. No setting chooses it yet, and nothing imports it.
"""
