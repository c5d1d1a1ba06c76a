"""Files of adapters, in whatever dialect. Read `endings` (what a tensor is), `names` (of which
layer), `kinds` (what it does), `placing`, `read`, `write`, `inversion` (words of pictures)."""
