"""The command line, a file per command or group of commands; heavy imports stay inside the functions."""
