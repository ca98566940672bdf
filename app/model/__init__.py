"""What a page is about: the network and the data, opened, uploaded, looked at."""
