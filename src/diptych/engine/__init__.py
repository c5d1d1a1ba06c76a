"""Many requests at once, step by step: admission, what shares a call of the network, and which
company changes no bit."""
