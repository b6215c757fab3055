"""The command line: one module per command, exit codes and messages."""
