"""Models and sets by name: what is shipped, what is known of the Hub, what is on this machine; and fetching."""
