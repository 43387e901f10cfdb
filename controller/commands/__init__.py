"""The commands for people: each a thin function of its arguments, the admin client, and where it writes."""
