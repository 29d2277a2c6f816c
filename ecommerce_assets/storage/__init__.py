"""The ground floor's storage: versions that are committed by one small file, and the IO managers that write them."""
