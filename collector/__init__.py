"""HTTP in, log out: everything between a client's request and a durable record."""
