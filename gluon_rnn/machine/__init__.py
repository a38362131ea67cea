"""How a process must start, what this machine has, and which library multiplies fastest on it."""
