"""One module per dialect for what its SDKs want of HTTP: paths, answers, settings; `decode` reads what they send."""
