"""The page over the whole store, with the real model behind it: `circuits serve`."""
