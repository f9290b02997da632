"""What speaks HTTP: connections, access, bodies, responses."""
