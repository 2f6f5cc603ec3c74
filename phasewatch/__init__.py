"""The product's shell: command line, settings, embedded mode. It imports everything and is imported by nothing."""
