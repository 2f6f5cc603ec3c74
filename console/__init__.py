"""Query API and live page; reads through processors' ports."""
