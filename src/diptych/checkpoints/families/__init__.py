"""What is known of published families: a file for each kind of network, its layouts as rules."""
