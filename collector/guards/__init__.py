"""What keeps one client from harming the others: whose address counts, rates, connections, people never recorded."""
