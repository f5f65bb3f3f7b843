"""Binary formats that several readers share: checksums, varints, protocol buffers, TFRecords."""
