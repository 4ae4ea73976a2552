"""The client role: arrivals, workloads and the requests that they make."""
