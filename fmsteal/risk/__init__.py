"""How stealable a victim is before anybody steals: from what is known of it, and from our own measured tables."""
