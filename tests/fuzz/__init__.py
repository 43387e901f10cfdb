"""Feeds what untrusted peers may send to the readers of foreign bytes, and watches what an input costs them.

An input is made from a valid document by mutations that know its words. A reader may refuse it by the errors that
it documents, within the time and memory that its size allows; everything else is a finding.
"""
