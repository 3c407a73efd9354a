"""One module a command: parse, call, render. Each is imported only when its command runs."""
