"""NodeSet2 files: the OPC Foundation's and those made from our tag tables."""
