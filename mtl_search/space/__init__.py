"""The search space: domains, and parameters bound to the constructors that take them."""
