"""Log in, stage changes out."""
