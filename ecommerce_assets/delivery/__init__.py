"""Published results to where the shop reads them."""
