"""The centre of a fleet: keeps what boxes saw, searches across them, and shares one gallery with them."""
