"""The roles in real time: sockets, threads, clocks and processes."""
