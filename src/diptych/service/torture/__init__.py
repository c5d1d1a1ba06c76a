"""A server under load whose processes are killed: does it lose or double anything?"""
