"""The command line: thin commands over the library, one result on standard output, everything else on standard error.

Importing this room imports cyclopts; rich, the drivers and the engine are imported by the command that needs them.
"""
