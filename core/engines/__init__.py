"""The inference engines behind one small interface, and the choice among them."""
