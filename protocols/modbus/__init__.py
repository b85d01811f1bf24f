"""Modbus: frames, registers, and what is asked with them.

Documents: "MODBUS Application Protocol Specification" V1.1b3 (2012), called [APP] here; "MODBUS over Serial Line
Specification and Implementation Guide" V1.02 (2006), called [SER]; "MODBUS Messaging on TCP/IP Implementation Guide"
V1.0b (2006), called [TCP].
"""
