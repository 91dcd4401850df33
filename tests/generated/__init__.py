"""Documents that are made from the code: ``python -m generated`` writes them, a test compares them."""
