"""Who it is: the gallery, and which tracks are enrolled people."""
