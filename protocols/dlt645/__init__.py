"""DL/T 645-2007 and DL/T 645-1997: frames, data identifiers, dialogues. One frame format, two sets of codes."""
