#!yaml
access:
  admin:
    ssh_keys: []  # the public keys that may log in as the admin
