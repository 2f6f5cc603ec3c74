"""Where accepted events become durable: one backend each, behind one port."""
