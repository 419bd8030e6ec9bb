"""The OPC UA client side: sessions, security and the address space made from tag tables."""
