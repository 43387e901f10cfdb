"""Simulators of the systems around us, speaking their real protocols on loopback.

They share no code with the clients they test, so that they cannot share a mistake either.
"""
